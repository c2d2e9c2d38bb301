import json

import h5py
import numpy as np
import pandas as pd
import pytest

import madeup
from spotwise.constants import FELL_BACK
from spotwise.reporting.tables import domain_tables, layout
from spotwise.reporting.tables.layout import write_pages
from spotwise.structure.structure_tables import read_structure_table

NOTES = {"Joint": "trained on the slide alone", "Expression": ""}


@pytest.fixture(scope="module")
def scores():
    """Two slides: the second one's scores are 0.2 above the first one's."""
    return pd.concat([madeup.scores("S1"), madeup.scores("S2", shift=0.2)], ignore_index=True)


def row(found, **keys):
    return found[(found[list(keys)] == list(keys.values())).all(axis=1)].iloc[0]


def test_means_and_both_spreads_by_hand(scores):
    found = domain_tables.domain_table(scores, ["c"], NOTES)
    joint = row(found, space="Joint", clustering="kmeans", refined=False)
    # slides 0.5 and 0.7 at seed 0, 0.6 and 0.8 at seed 1
    assert joint["ARI"] == pytest.approx(0.65)
    assert joint["ARI_sd_slides"] == pytest.approx(0.2 / np.sqrt(2))  # of 0.55 and 0.75
    assert joint["ARI_sd_seeds"] == pytest.approx(0.1 / np.sqrt(2))  # of 0.6 and 0.7
    assert joint[["n_slides", "n_labelled_slides", "n_seeds"]].tolist() == [2, 2, 2]
    expression = row(found, space="Expression", clustering="leiden", refined=True)
    assert expression["ARI"] == pytest.approx(0.25 + 0.3 + 0.02 + 0.1)
    assert np.isnan(expression["ARI_sd_seeds"])
    assert expression["n_seeds"] == 1


def test_a_slide_with_more_seeds_weighs_no_more():
    one, other = madeup.scores("S1"), madeup.scores("S2", shift=0.2)
    other = other[other["seed"] == 0]
    found = domain_tables.domain_table(pd.concat([one, other]), ["c"], NOTES)
    # seed 0: mean of 0.5 and 0.7; seed 1: 0.6
    assert row(found, space="Joint", clustering="kmeans", refined=False)["ARI"] == pytest.approx(0.6)


def test_slides_without_labels_count_where_no_labels_are_needed():
    both = pd.concat([madeup.scores("S1"), madeup.scores("S2", n_labelled=0, shift=0.2)])
    joint = row(domain_tables.domain_table(both, ["c"], NOTES), space="Joint", clustering="kmeans", refined=False)
    assert joint["ARI"] == pytest.approx(0.55)
    assert joint["pas"] == pytest.approx(0.65)
    assert joint[["n_slides", "n_labelled_slides"]].tolist() == [2, 1]


def test_rows_come_cohort_by_cohort_in_the_order_of_the_configuration(scores):
    other = scores.assign(cohort="a")
    found = domain_tables.domain_table(pd.concat([other, scores]), ["c", "a"], NOTES)
    assert found["cohort"].tolist() == ["c"] * 8 + ["a"] * 8
    assert found["clustering"].tolist()[:8] == ["kmeans"] * 4 + ["leiden"] * 4
    assert found["space"].tolist()[:4] == ["Joint", "Joint", "Expression", "Expression"]
    assert found["refined"].tolist()[:4] == [False, True, False, True]


def test_notes_describe_each_space_and_its_halves():
    kinds = {
        "M": ["clustering", "slide"],
        "MC": ["clustering", "cohort"],
        "R": ["retrieval", None],
        "Expression": ["baseline", None],
        "Image": ["baseline", None],
    }
    notes = domain_tables.space_notes(kinds, dict.fromkeys(["M", "Image"], "image encoder without published weights"))
    halves = {name: [f"{name} (image half)", f"{name} (expression half)"] for name in ("M", "MC", "R")}
    assert list(notes) == ["M", *halves["M"], "MC", *halves["MC"], "R", *halves["R"], "Expression", "Image"]
    assert notes["M (image half)"] == "embedding of the images alone, trained together with its other half"
    assert "expression alone" in notes["R (expression half)"]
    assert notes["M"] == "trained on the slide alone; image encoder without published weights"
    assert notes["MC"] == "trained on the slides of the cohort together"
    assert "not seen the slide" in notes["R"]
    assert notes["Expression"] == ""
    assert notes["Image"] == "image encoder without published weights"


def test_remarks_on_encoders_are_read_from_the_spaces(tmp_path):
    for name, pretrained in (("A", True), ("B", False), ("C", None), ("D", False), ("E", True)):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["space"] = name
            if pretrained is not None:
                file.attrs["pretrained"], file.attrs["fell_back"] = pretrained, name == "D"
                file.attrs["encoder"] = "UNI" if name == "A" else "imagenet-small"
    found = domain_tables.encoder_notes([tmp_path / name for name in "ABCDE"])
    assert found == {
        "B": "image encoder without published weights",
        "D": FELL_BACK,
        "E": "image encoder trained on ImageNet, not pathology",
    }


# --- What is read


def lines_of(found, n_domains=None, note="Labels are clusters of the expression: circular"):
    return layout.markdown(domain_tables.domains_page(found, n_domains, note)).splitlines()


def test_markdown_marks_the_best_of_a_clustering_and_gives_the_spread_over_slides(scores):
    lines = lines_of(domain_tables.domain_table(scores, ["c"], NOTES))
    assert "### `kmeans` clustering: groups around as many centres as domains are requested" in lines
    assert [line.startswith("## ") for line in lines].count(True) == 1
    rows = [line.split(" | ") for line in lines if line.startswith(("| Joint", "| Expression"))]
    assert [cells[:2] for cells in rows[:2]] == [["| Joint", "raw"], ["| Joint", "refined"]]
    # ARI of k-means: 0.65, 0.67 (best), 0.35, 0.37; the second best is 0.65
    assert [cells[2] for cells in rows[:4]] == [
        "<u>0.650</u> ± 0.141",
        "**0.670** ± 0.141",
        "0.350 ± 0.141",
        "0.370 ± 0.141",
    ]
    # silhouette and PAS rank nothing
    assert not any("*" in cells[6] or "*" in cells[7] or "<u>" in cells[6] + cells[7] for cells in rows)
    assert rows[0][8] == "3.0 |"


def test_remarks_say_where_k_comes_from_and_what_is_circular(scores):
    lines = lines_of(domain_tables.domain_table(scores, ["c"], NOTES))
    assert "* The number of domains was taken from the labels: that of their classes" in lines
    assert "* Labels are clusters of the expression: circular" in lines
    assert lines.count("* Joint: trained on the slide alone") == 2  # once below each clustering
    assert "* 2 slides, 2 seeds" in lines
    fixed = lines_of(domain_tables.domain_table(scores, ["c"], NOTES), 7)
    assert "* 7 domains were requested, as configured" in fixed
    assert not any("taken from the labels" in line for line in fixed)


def test_a_cohort_without_labels_says_so_and_has_dashes():
    found = domain_tables.domain_table(madeup.scores(n_labelled=0), ["c"], NOTES)
    lines = lines_of(found, 3, "a note on labels")
    assert f"* {domain_tables.NO_LABELS}" in lines
    assert not any("a note on labels" in line for line in lines)
    joint = next(line for line in lines if line.startswith("| Joint | raw"))
    assert joint.split(" | ")[2:7] == ["–"] * 5
    assert "**" not in joint


def test_files_hold_the_same_numbers(scores, tmp_path):
    found = domain_tables.domain_table(scores, ["c"], NOTES)
    paths = [tmp_path / f"domains.{kind}" for kind in ("csv", "md", "tex")]
    write_pages(found, [domain_tables.domains_page(found, None, "a_note")], *paths)
    back = pd.read_csv(paths[0], keep_default_na=False, na_values={"ARI_sd_seeds": [""]})
    np.testing.assert_allclose(back["ARI"], found["ARI"], atol=1e-6)
    np.testing.assert_allclose(back["ARI_sd_seeds"], found["ARI_sd_seeds"], atol=1e-6)
    tex = paths[2].read_text(encoding="utf-8")
    assert r"\label{tab:domains-kmeans}" in tex
    assert r"\label{tab:domains-leiden}" in tex
    assert r"\textbf{0.670} $\pm$ 0.141" in tex
    assert r"a\_note" in tex


def test_a_slide_called_na_keeps_its_name(tmp_path):
    madeup.scores("NA", cohort="null").to_csv(tmp_path / "s.tsv", sep="\t", index=False, na_rep="nan")
    back = domain_tables.read_scores([tmp_path / "s.tsv", tmp_path / "s.tsv"])
    assert set(back["sample"]) == {"NA"}
    assert set(back["cohort"]) == {"null"}
    pd.testing.assert_frame_equal(back.iloc[:12], madeup.scores("NA", cohort="null"), check_dtype=False)


# --- Variable genes


@pytest.fixture
def gene_files(tmp_path):
    agreements, genes = {}, []
    for sample, names in (("S1", madeup.GENES), ("S2", ["NA", "null", "nan"])):
        path = tmp_path / f"{sample}.json"
        path.write_text(json.dumps(madeup.AGREEMENT | {"n_both": len(names)}))
        agreements["c", sample] = path
        genes.append(tmp_path / f"{sample}.tsv")
        madeup.variable_genes(names).to_csv(genes[-1], sep="\t", index=False)
    return agreements, genes


def test_each_slide_has_a_row_of_its_numbers_and_its_top_genes(gene_files):
    found = domain_tables.variable_gene_table(*gene_files, top=2)
    assert found[["cohort", "sample", "n_both", "top_genes"]].to_numpy().tolist() == [
        ["c", "S1", 4, "G0 G1"],
        ["c", "S2", 3, "NA null"],
    ]
    assert found["jaccard"].tolist() == pytest.approx([2 / 3] * 2)
    assert found["spearman"].isna().all()


def test_the_table_of_variable_genes_warns_of_its_p_values(gene_files, tmp_path):
    found = domain_tables.variable_gene_table(*gene_files, top=2)
    page = domain_tables.variable_genes_page(found, "Joint")
    write_pages(found, [page], tmp_path / "v.csv", tmp_path / "v.md", float_format="%.6g")
    lines = (tmp_path / "v.md").read_text(encoding="utf-8").splitlines()
    assert "| S1 | 4 | 3 | 1 | 2 | 4 | 0.67 | 5.0 | 5.0e-01 | – | G0 G1 |" in lines
    assert any("domains are those of Joint" in line for line in lines)
    assert any("no evidence that there are domains" in line for line in lines)
    assert not any(line.startswith("###") for line in lines)
    assert read_structure_table(tmp_path / "S1.tsv")["gene"].tolist() == madeup.GENES
