"""Claims about the comparison with the published numbers: verdicts worked out by hand, a page that is safe to open."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spotwise.constants import ALL_COHORTS, FELL_BACK
from spotwise.evaluation.published_numbers import COHORTS, read_published_numbers
from spotwise.reporting.tables import paper_vs_ours

NUMBERS = read_published_numbers(Path(__file__).parents[2] / "resources" / "paper")
DRAWS = 2000
T = 4.30265  # the quantile of Student's t with 2 degrees of freedom that a 95 % interval of three slides has


def scored(predictor, pcc, gene="ZG16", cohort="READ", protocol="paper", **ranks):
    """Scores of one gene on so many slides, a fold each; a marker unless it is ranked."""
    facts = {"rank_mean": 0, "rank_var": 0, "is_marker": not ranks, "is_measured": True, "note": "", **ranks}
    rows = pd.DataFrame({"pcc": np.array(pcc, dtype=float), "fold": range(len(pcc))})
    rows["sample"] = "S" + rows["fold"].astype(str)
    keys = {"cohort": cohort, "protocol": protocol, "predictor": predictor, "gene": gene, "seed": 0}
    return rows.assign(**keys, kind="method", **facts)


def compare(*parts):
    return paper_vs_ours.compare(NUMBERS, pd.concat(parts, ignore_index=True), DRAWS)


def row(table, model, genes, dataset="READ", number=1):
    keys = (
        table["table"].eq(number) & table["dataset"].eq(dataset) & table["model"].eq(model) & table["genes"].eq(genes)
    )
    found = table[keys]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def read():
    """READ with one marker on three slides, which the paper has at STNet 0.1251, BLEEP 0.2541, CMRCNet-50 0.2505."""
    return compare(
        scored("STNet", [0.1, 0.2, 0.6]),  # 0.3, sd 0.2646: 0.3 ± T 0.1528 holds 0.1251, and 0, too
        scored("BLEEP-ViT-50", [0.90, 0.91, 0.92]),  # 0.91 ± T 0.00577 = 0.0248: above 0.2541
        scored("BLEEP-50", [0.25, 0.26, 0.27]),  # 0.26 ± 0.0248 holds it
        scored("CMRCNet-50", [0.01, 0.02, 0.03]),  # 0.02 ± 0.0248: below 0.2505
        scored("Ridge", [0.25, 0.25, 0.25]),  # in no table of the paper
        scored("STNet", [0.2, 0.4], protocol="patient"),  # 0.3, sd 0.1414: 0.3 ± 12.706 times 0.1, cut at 1
        *(scored(name, [0, 0], protocol="patient") for name in ("BLEEP-ViT-50", "BLEEP-50", "CMRCNet-50", "Ridge")),
    )


def test_a_published_number_in_our_interval_is_reproduced(read):
    found = row(read, "STNet", "marker")
    assert found[["published", "predictor", "verdict"]].tolist() == [0.1251, "STNet", "reproduced"]
    assert found["paper_mean"] == pytest.approx(0.3)
    assert found["paper_ci_low"] == pytest.approx(0.3 - T * 0.15275, abs=0.03)
    assert found["paper_width"] == pytest.approx(2 * T * 0.15275, abs=0.06)


def test_the_patient_protocol_does_not_affect_the_verdict(read):
    found = row(read, "STNet", "marker")
    assert found[["patient_mean", "patient_ci_low", "patient_ci_high"]].tolist() == pytest.approx(
        [0.3, -0.97, 1], abs=0.06
    )
    assert row(read, "BLEEP", "marker")[["patient_mean", "verdict"]].tolist() == [0, "higher"]
    assert row(read, "CMRCNet-500", "marker")[["patient_mean", "patient_ci_low"]].isna().all()


def test_our_whole_interval_above_is_higher_and_below_is_lower(read):
    higher, lower = row(read, "BLEEP", "marker"), row(read, "CMRCNet-50", "marker")
    assert higher[["predictor", "verdict"]].tolist() == ["BLEEP-ViT-50", "higher"]
    assert lower[["predictor", "verdict"]].tolist() == ["CMRCNet-50", "lower"]
    assert lower[["paper_ci_low", "paper_ci_high"]].tolist() == pytest.approx([-0.0048, 0.0448], abs=2e-3)


def test_the_other_reading_has_a_verdict_of_its_own(read):
    found = row(read, "BLEEP", "marker")
    assert found[["other_predictor", "other_verdict"]].tolist() == ["BLEEP-50", "reproduced"]
    assert found["other_mean"] == pytest.approx(0.26)
    assert "ResNet50" in found["remark"]
    assert row(read, "CMRCNet-50", "marker")["other_verdict"] == "not run"


def test_cohorts_predictors_and_genes_missing_from_the_run_are_not_run(read):
    for found in (
        row(read, "CMRCNet-500", "marker"),  # no such predictor
        row(read, "STNet", "marker", dataset="COAD"),  # no such cohort
        row(read, "STNet", "HEG_top50"),  # no such gene
        row(read, "MSE, 0.5, Image", "marker", dataset=ALL_COHORTS, number=5),  # one cohort of six
    ):
        assert found["verdict"] == "not run"
        assert found[["paper_mean", "paper_ci_low", "paper_ci_high", "paper_width"]].isna().all()
    # three markers in Table 1; ZG16 is also a gene of Table 3, of STNet (0.4074) and of BLEEP (0.4913)
    assert read.loc[read["verdict"].ne("not run"), ["table", "verdict"]].to_numpy().tolist() == [
        [1, "reproduced"],
        [1, "higher"],
        [1, "lower"],
        [3, "reproduced"],
        [3, "higher"],
    ]


def test_a_published_number_at_the_edge_of_the_interval_is_in_it():
    published, low, high = (
        pd.Series(values) for values in ([0.2, 0.2, 0.2, 0.2], [0.2, 0.1, 0.21, 0], [0.3, 0.2, 0.3, 0.19])
    )
    assert paper_vs_ours.verdicts(published, low, high).tolist() == ["reproduced", "reproduced", "higher", "lower"]


def test_a_gene_of_table_3_is_averaged_over_all_slides():
    table = compare(
        scored("CMRCNet-50", [0.4, 0.5, 0.7], gene="ITLN1", rank_mean=300),
        scored("CMRCNet-50", [0.9, 0.9, 0.9], gene="MUC2", rank_mean=301),
    )
    found = row(table, "CMRCNet-50", "ITLN1", number=3)
    assert found["published"] == 0.5008
    assert found["paper_mean"] == pytest.approx(1.6 / 3)
    assert found["verdict"] == "reproduced"
    assert row(table, "CMRCNet-50", "MUC2", number=3)["verdict"] == "higher"
    assert row(table, "CMRCNet-50", "FCGBP", number=3)["verdict"] == "not run"


def test_a_gene_that_no_slide_measures_is_not_run():
    table = compare(scored("CMRCNet-50", [np.nan] * 3, gene="ITLN1", rank_mean=0, is_measured=False))
    assert row(table, "CMRCNet-50", "ITLN1", number=3)["verdict"] == "not run"


def test_gene_lists_have_the_length_of_the_papers():
    ranks = (1, 50, 51, 150, 151, 250, 251)
    genes = [
        scored("CMRCNet-250", [rank / 1000] * 3, gene=f"G{rank}", rank_mean=rank, rank_var=252 - rank) for rank in ranks
    ]
    table = compare(*genes)
    # up to rank 150 by the mean; by the variance the ranks are 251, 202, 201, 102, 101, 2, 1
    assert row(table, "CMRCNet", "HEG_top150", number=2)["paper_mean"] == pytest.approx(
        np.mean([1, 50, 51, 150]) / 1000
    )
    assert row(table, "CMRCNet", "HVG_top150", number=2)["paper_mean"] == pytest.approx(
        np.mean([150, 151, 250, 251]) / 1000
    )
    assert row(table, "CMRCNet", "HEG_top250", number=2)["predictor"] == "CMRCNet-500"


@pytest.mark.parametrize(("missing", "verdict"), [((), "reproduced"), (("PSC",), "not run")])
def test_table_5_takes_all_six_cohorts(missing, verdict):
    level = dict(zip(COHORTS, (0.1, 0.2, 0.3, 0.2, 0.3, 0.3), strict=True))  # mean 0.2333; printed: 0.2372
    parts = [
        scored("CMRCNet-50", [level[cohort] - 0.05, level[cohort], level[cohort] + 0.05], cohort=cohort)
        for cohort in COHORTS
        if cohort not in missing
    ]
    found = row(compare(*parts), "MSE, 0.5, Image", "marker", dataset=ALL_COHORTS, number=5)
    assert found["verdict"] == verdict
    if not missing:
        assert found["paper_mean"] == pytest.approx(1.4 / 6)
        # variance of each mean 0.05² / 3; six of them, pooled: 12 degrees of freedom, quantile 2.1788
        assert found["paper_width"] == pytest.approx(2 * 2.1788 * 0.05 / np.sqrt(3 * 6), rel=0.05)


@pytest.mark.parametrize(
    ("paper", "patient", "has"),
    [
        (COHORTS, COHORTS[:-1], (True, True)),  # PSC is of one donor
        (COHORTS[:-2], COHORTS[:-1], (False, True)),  # IDC ran under patient alone
        (COHORTS, COHORTS[:-2], (True, False)),
    ],
)
def test_table_5_has_a_mean_only_where_a_protocol_ran_every_cohort(paper, patient, has):
    parts = [
        scored("CMRCNet-50", [0.1, 0.2, 0.3], cohort=cohort, protocol=protocol)
        for protocol, cohorts in (("paper", paper), ("patient", patient))
        for cohort in cohorts
    ]
    found = row(compare(*parts), "MSE, 0.5, Image", "marker", dataset=ALL_COHORTS, number=5)
    assert tuple(not np.isnan(found[f"{protocol}_mean"]) for protocol in ("paper", "patient")) == has


def test_further_cohorts_of_a_run_do_not_change_the_mean_of_the_six():
    six = [scored("CMRCNet-50", [0.1, 0.2, 0.3], cohort=cohort) for cohort in COHORTS]
    table, with_more = compare(*six), compare(*six, scored("CMRCNet-50", [0.9, 0.8, 0.9], cohort="her2st"))
    pd.testing.assert_frame_equal(table, with_more)


def test_every_published_number_has_its_row(read):
    assert list(read) == paper_vs_ours.COLUMNS
    assert read["published"].tolist() == NUMBERS["pcc"].tolist()
    assert read["genes"].tolist() == (NUMBERS["gene_set"] + NUMBERS["gene"]).tolist()


def test_one_sentence_says_how_much_the_run_covers(read):
    assert paper_vs_ours.coverage(read, ["READ"]) == (
        "This run (READ) covers 5 of 357 published numbers: 2 reproduced, 1 lower, 2 higher."
    )
    nothing = compare(scored("CMRCNet-50", [0.1, 0.2], cohort="demo"))
    assert nothing["verdict"].eq("not run").all()
    assert (
        paper_vs_ours.coverage(nothing, ["demo", "null"]) == "This run (demo, null) covers 0 of 357 published numbers."
    )


# --- What is read


def test_markdown_has_a_line_for_every_number(read):
    lines = paper_vs_ours.to_markdown(read, ["READ"]).splitlines()
    assert lines[2].startswith("This run (READ) covers 5 of 357")
    interval = row(read, "BLEEP", "marker")
    ours = f"0.910 [{interval['paper_ci_low']:.3f}, {interval['paper_ci_high']:.3f}] | {interval['paper_width']:.3f}"
    patient = "0.000 [0.000, 0.000]"
    other = f"BLEEP-50: 0.260 [{interval['other_ci_low']:.3f}, {interval['other_ci_high']:.3f}], reproduced"
    assert f"| READ | BLEEP | marker | 0.2541 | BLEEP-ViT-50 | {ours} | higher | {patient} | {other} | 3 |" in lines
    assert "| PSC | STNet | HEG top 50 | 0.1817 | STNet | – | – | not run | – | – | 1 |" in lines
    assert sum(line.startswith("| ") for line in lines) == 357 + 5
    third_note = lines[lines.index("## Table 2: 150 and 250 genes") - 3]
    assert third_note.startswith("3. ")
    assert "contrastive-only" in third_note


def test_random_weights_in_place_of_others_are_a_remark():
    table = compare(scored("STNet", [0.1, 0.2, 0.6], note=FELL_BACK, is_marker=True))
    assert row(table, "STNet", "marker")["remark"].startswith(FELL_BACK)
    assert not table.loc[table["predictor"].ne("STNet"), "remark"].str.contains("random weights").any()


def test_an_interval_that_holds_0_is_marked():
    table = compare(
        scored("STNet", [0.1, 0.2, 0.6]),  # 0.3 ± 0.657
        scored("HisToGene", [0.30, 0.31, 0.32]),  # 0.31 ± 0.025
        scored("CMRCNet-50", [-0.30, -0.31, -0.32]),
    )
    lines = [line.split(" | ") for line in paper_vs_ours.to_markdown(table, ["READ"]).splitlines()]
    widths = {cells[1]: cells[6] for cells in lines if cells[0] == "| READ" and cells[2] == "marker"}
    assert widths["STNet"].endswith(", holds 0")
    assert [widths[name].count("holds 0") for name in ("HisToGene", "CMRCNet-50", "CMRCNet-500")] == [0, 0, 0]


class Page(HTMLParser):
    """Cells of each row of the body, classes of the verdicts, and all tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.attributes, self.verdicts, self.in_cell = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]
        if tag == "tr":
            self.rows.append([])
        self.in_cell = tag == "td"
        if self.in_cell:
            self.rows[-1].append("")
            self.verdicts += [value.split()[1] for _, value in attributes if value.startswith("verdict")]

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.in_cell = False


def test_the_page_holds_what_the_markdown_holds(read):
    page = Page(paper_vs_ours.to_html(read, ["READ"]))
    rows = [cells for cells in page.rows if cells]
    lines = paper_vs_ours.to_markdown(read, ["READ"]).splitlines()
    expected = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and "Dataset" not in line]
    assert rows == expected
    assert page.verdicts == [cells[7].replace(" ", "-") for cells in rows]
    assert {"reproduced", "lower", "higher", "not-run"} == set(page.verdicts)


def test_the_page_explains_its_verdicts_and_their_weakness(read):
    text = paper_vs_ours.to_html(read, ["READ"])
    assert text.startswith("<!DOCTYPE html>")
    assert "covers 5 of 357 published numbers" in text.split("<table>")[0]
    assert "A wide interval reproduces anything" in text
    assert "no interval for its numbers" in text
    assert "median width of our intervals" in text


def test_nothing_in_the_page_runs_or_is_loaded(read):
    page = Page(text := paper_vs_ours.to_html(read, ["<script>alert(1)</script>", 'x" onload="y']))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert set(page.attributes) == {"lang", "charset", "class"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    for outside in ("http", "url(", "@import", "src="):
        assert outside not in text


def test_names_in_the_rows_are_escaped_too(read):
    text = paper_vs_ours.to_html(read.assign(dataset="<script>alert(2)</script>", remark="<b>note"), ["READ"])
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count("&lt;script&gt;alert(2)") == 357


def test_all_three_files_are_written(read, tmp_path):
    paths = [tmp_path / name for name in ("paper_vs_ours.csv", "paper_vs_ours.md", "paper_vs_ours.html")]
    paper_vs_ours.write(read, ["READ"], *paths)
    back = pd.read_csv(paths[0], keep_default_na=False, na_values={name: [""] for name in read.select_dtypes(float)})
    pd.testing.assert_frame_equal(back, read, check_exact=False, atol=1e-6, check_dtype=False)
    assert paths[1].read_text(encoding="utf-8") == paper_vs_ours.to_markdown(read, ["READ"])
    assert paths[2].read_text(encoding="utf-8") == paper_vs_ours.to_html(read, ["READ"])
