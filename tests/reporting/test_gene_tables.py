"""Table 3 and the marker table."""

import anndata
import numpy as np
import pandas as pd
import pytest

import texreader
from handmade import genes_of
from spotwise.data.genes import select_genes
from spotwise.evaluation import averages
from spotwise.reporting import tables
from spotwise.reporting.tables import layout
from spotwise.reporting.tables.gene_tables import lacking_slides, marker_table, page3, table3


def gene_table(*files):
    scores = pd.concat(files)
    return averages.in_order(averages.gene_table(scores), [], scores["predictor"].unique())


def bullets(text):
    return [line[2:] for line in text.splitlines() if line.startswith("* ")]


def listed(table, predictor):
    return table[table["predictor"].eq(predictor)].sort_values("rank")["gene"].tolist()


# --- Table 3

SIX = {"G1": 0.9, "G2": 0.8, "G3": 0.7, "G4": 0.6, "G5": 0.5, "G6": 0.4}


def test_table3_lists_the_five_genes_of_the_highest_mean():
    table = table3(
        gene_table(
            genes_of("STNet", {**SIX, "G6": 0.4}, 0, sample="S1"),
            genes_of("STNet", {**SIX, "G6": 0.8}, 1, sample="S2"),  # mean 0.6, as G4: the name decides
            genes_of("STNet", {**SIX, "G1": -0.5, "G6": 0.6}, 2, sample="S3"),  # G1: mean 1.3 / 3
        )
    )
    assert table["gene"].tolist() == ["G2", "G3", "G4", "G6", "G5"]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table["pcc"].tolist() == pytest.approx([0.8, 0.7, 0.6, 0.6, 0.5])
    assert table["pcc_sd_folds"].tolist() == pytest.approx([0, 0, 0, 0.2, 0])
    assert table["n_candidates"].tolist() == [6] * 5


def test_ties_at_six_decimals_are_ordered_by_name():
    dust = {f"G{place}": 0.5 + place * 1e-9 for place in range(6)}
    assert table3(gene_table(genes_of("STNet", dust)))["gene"].tolist() == ["G0", "G1", "G2", "G3", "G4"]


def test_candidates_are_genes_measured_on_every_test_slide():
    table = table3(
        gene_table(
            genes_of("STNet", {"A": 0.9, "B": 0.8, "C": 0.1, "D": 0.2}, 0, sample="S1"),
            genes_of(
                "STNet", {"A": 0.9, "C": 0.3, "D": 0.2}, 1, sample="S2", measured={"A": False}
            ),  # its panel lacks B
        )
    )
    assert table["gene"].tolist() == ["C", "D", "", "", ""]
    assert table["pcc"][:2].tolist() == pytest.approx([0.2, 0.2])
    assert table["pcc"][2:].isna().all()
    assert table["n_candidates"].tolist() == [2] * 5
    assert table["n_slides"].dropna().tolist() == [2, 2]


def test_a_marker_that_one_fold_does_not_count_as_variable_is_no_candidate():
    files = [
        genes_of("STNet", {"A": 0.9, "B": 0.8, "M": 0.99}, fold, sample=f"S{fold}", markers="M") for fold in (0, 1)
    ]
    files[1].loc[files[1]["gene"].eq("M"), ["rank_mean", "rank_var"]] = 0
    table = table3(gene_table(*files))
    assert table["gene"].tolist() == ["A", "B", "", "", ""]
    assert (table["n_candidates"] == 2).all()


def test_a_gene_without_any_correlation_is_not_among_the_best():
    files = [
        genes_of("STNet", {"A": 0.0, "B": -0.3, "C": 0.0}, fold, sample=f"S{fold}", constant=["A", "C"][: 2 - fold])
        for fold in (0, 1)
    ]
    table = table3(gene_table(*files))
    # A is constant on both slides; C on one, so that its 0 counts as in Table 1
    assert table["gene"].tolist() == ["C", "B", "", "", ""]
    assert table["n_constant"][:2].tolist() == [1, 0]


def five(*genes):
    return {gene: 0.9 - 0.1 * place for place, gene in enumerate(genes)}


@pytest.fixture
def four_methods():
    return gene_table(
        genes_of("CMRCNet-50", five("ALL", "MOST", "HALF", "X1", "X2"), k=50, k_used=30),
        genes_of("CMRCNet-500", five("N1", "N2", "N3", "N4", "N5"), k=500),
        genes_of("BLEEP-50", five("ALL", "MOST", "HALF", "Y1", "Y2"), k=50, note="encoder without pretrained weights"),
        genes_of("STNet", five("Z1", "ALL", "MOST", "Z2", "Z3")),
        genes_of("HisToGene", five("W1", "W2", "W3", "W4", "ALL")),
        genes_of("Oracle", five("HALF", "ALL", "V1", "V2", "V3")),
        genes_of("TrainMean", five("ALL", "HALF"), constant=["ALL", "HALF"]),
    )


def test_table3_shows_the_first_predictor_of_each_method(four_methods):
    table = table3(four_methods)
    assert table["predictor"].drop_duplicates().tolist() == [
        *("CMRCNet-50", "BLEEP-50", "STNet", "HisToGene", "Oracle", "TrainMean")
    ]
    assert listed(table, "STNet") == ["Z1", "ALL", "MOST", "Z2", "Z3"]
    assert listed(table, "TrainMean") == [""] * 5


def test_table3_counts_the_methods_that_share_a_gene(four_methods):
    table = table3(four_methods)
    counts = table[table["gene"].ne("")].drop_duplicates("gene").set_index("gene")["n_methods"]
    assert counts[["ALL", "MOST", "HALF", "Z1", "V1"]].tolist() == [4, 3, 2, 1, 0]  # controls do not count
    assert set(table["of_methods"]) == {4}


def test_genes_of_all_methods_are_bold_and_of_most_underlined(four_methods):
    page = page3(table3(four_methods))
    text = layout.markdown(page)
    # two of four are not most
    assert "| CMRCNet-50 | **ALL** 0.900 | <u>MOST</u> 0.800 | HALF 0.700 | X1 0.600 | X2 0.500 |" in text
    assert "| *Oracle* | HALF 0.900 | ALL 0.800 | V1 0.700 | V2 0.600 | V3 0.500 |" in text
    assert "| *TrainMean* | – | – | – | – | – |" in text
    assert "not which method is better" in text
    assert bullets(text) == [
        "Selected from 2 genes: those of every fold's panel that every test slide measures",
        "TrainMean: no gene varies on any slide",
        "CMRCNet-50: bank smaller than K: whole bank used (k_used=30)",
        "BLEEP-50: encoder without pretrained weights",
        "1 fold, 1 seed",
    ]


def test_a_single_method_shares_nothing():
    text = layout.markdown(page3(table3(gene_table(genes_of("STNet", five(*"ABCDE"))))))
    assert "| STNet | A 0.900 | B 0.800 | C 0.700 | D 0.600 | E 0.500 |" in text


def test_sharing_is_counted_within_a_cohort_and_protocol():
    files = [
        genes_of(name, five(*genes), cohort=cohort, protocol=protocol)
        for cohort, protocol, name, genes in (
            ("READ", "paper", "STNet", "ABCDE"),
            ("READ", "paper", "EGN", "AFGHI"),
            ("READ", "patient", "STNet", "BCDEF"),
            ("READ", "patient", "EGN", "CGHIJ"),
            ("SKCM", "paper", "EGN", "BJKLM"),
        )
    ]
    table = table3(gene_table(*files)).set_index(["cohort", "protocol", "predictor", "gene"])
    assert table.loc[("READ", "paper", "STNet", "A"), "n_methods"] == 2
    assert table.loc[("READ", "paper", "STNet", "B"), "n_methods"] == 1
    assert table.loc[("READ", "patient", "EGN", "C"), "n_methods"] == 2
    assert table.loc[("SKCM", "paper", "EGN", "B"), ["n_methods", "of_methods"]].tolist() == [1, 1]


def test_latex_of_table3_says_what_its_csv_says(tmp_path):
    rng = np.random.default_rng(1)
    genes = [f"HLA_{place}&A*{place}" for place in range(9)]
    files = [
        genes_of(
            name, dict(zip(genes, rng.normal(-0.2, 0.3, 9), strict=True)), fold, sample=f"S{fold}", protocol=protocol
        )
        for protocol in ("paper", "patient")
        for name in ("STNet", "A_B", "Oracle")
        for fold in (0, 1)
    ]
    tables.write_table(table3(gene_table(*files)), tmp_path / "table3.csv")
    found = texreader.read((tmp_path / "table3.tex").read_text())
    csv = pd.read_csv(tmp_path / "table3.csv")
    assert len(csv) == 2 * 3 * 5
    assert (csv["pcc"] < 0).any()
    for _, row in csv.iterrows():
        place = ["1st", "2nd", "3rd", "4th", "5th"][row["rank"] - 1]
        cell = found[row["protocol"]].cells("READ")[row["predictor"]][place]
        assert cell == f"{row['gene']} {round(row['pcc'], 3):.3f} ± {row['pcc_sd_folds']:.3f}"


# --- Markers


@pytest.fixture
def markers():
    return gene_table(
        *(
            genes_of(name, {"MIA": a, "TYR": b, "X": 0.5}, fold, sample=f"S{fold}", markers=["MIA", "TYR"], **options)
            for name, fold, a, b, options in (
                ("STNet", 0, 0.2, 0.6, {}),
                ("STNet", 1, 0.4, 0.0, {"measured": {"TYR": False}}),
                ("BLEEP-50", 0, 0.0, 0.5, {"k": 50, "constant": ["MIA"], "note": "encoder without pretrained weights"}),
                ("BLEEP-50", 1, 0.1, 0.0, {"k": 50, "measured": {"TYR": False}}),
                ("Oracle", 0, 1.0, 1.0, {}),
                ("Oracle", 1, 1.0, 0.0, {"measured": {"TYR": False}}),
            )
        )
    )


LACKING = {("READ", "paper", "TYR"): {"S1"}, ("READ", "paper", "RND"): {"S0", "S1"}}
LISTED = {"READ": ["TYR", "RND", "MIA"], "COAD": ["A"]}


def test_marker_table_has_every_marker_and_the_reason_for_a_missing_score(markers):
    table = marker_table(markers, LISTED, LACKING)
    assert table[["gene", "predictor"]].to_numpy().tolist() == [
        *(["TYR", name] for name in ("STNet", "BLEEP-50", "Oracle")),
        ["RND", ""],
        *(["MIA", name] for name in ("STNet", "BLEEP-50", "Oracle")),
    ]
    assert table["pcc"].tolist() == pytest.approx([0.6, 0.5, 1.0, np.nan, 0.3, 0.05, 1.0], nan_ok=True)
    assert table["pcc_sd_folds"].tolist() == pytest.approx(
        [np.nan] * 4 + [0.2 / np.sqrt(2), 0.1 / np.sqrt(2), 0], nan_ok=True
    )
    assert table["n_slides"].tolist() == [1, 1, 1, 0, 2, 2, 2]
    assert table["of_slides"].tolist() == [2] * 7
    assert table["n_constant"].tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert table["reason"].tolist() == [
        *["scored on 1 of 2 slides; not measured on S1"] * 3,
        "no slide has a gene of this name",
        *[""] * 3,
    ]


def test_markers_are_laid_out_by_predictor_with_reasons_below(markers, tmp_path):
    tables.write_table(marker_table(markers, LISTED, LACKING), tmp_path / "markers.csv")
    text = (tmp_path / "markers.md").read_text()
    assert "| Predictor | TYR | MIA | constant |" in text
    assert "| STNet | **0.600** | **0.300** ± 0.141 | 0 of 1.5 |" in text
    assert "| BLEEP-50 | <u>0.500</u> | <u>0.050</u> ± 0.071 | 0.5 of 1.5 |" in text
    assert "| *Oracle* | 1.000 | 1.000 ± 0.000 | 0 of 1.5 |" in text
    assert bullets(text) == [
        "TYR: scored on 1 of 2 slides; not measured on S1",
        "RND: no slide has a gene of this name",
        "BLEEP-50: encoder without pretrained weights",
        "2 folds, 1 seed",
    ]
    found = texreader.read((tmp_path / "markers.tex").read_text())["paper"]
    assert found.label == "tab:markers-paper"
    assert found.cells("READ") == {
        "STNet": {"TYR": "0.600", "MIA": "0.300 ± 0.141", "constant": "0 of 1.5"},
        "BLEEP-50": {"TYR": "0.500", "MIA": "0.050 ± 0.071", "constant": "0.5 of 1.5"},
        "Oracle": {"TYR": "1.000", "MIA": "1.000 ± 0.000", "constant": "0 of 1.5"},
    }
    assert "RND: no slide has a gene of this name" in (tmp_path / "markers.tex").read_text()


def test_a_cohort_whose_markers_no_slide_measures_still_lists_them(markers, tmp_path):
    lacking = {("READ", "paper", "RND"): {"S0", "S1"}}
    tables.write_table(marker_table(markers, {"READ": ["RND"]}, lacking), tmp_path / "markers.csv")
    text = (tmp_path / "markers.md").read_text()
    assert bullets(text) == ["RND: no slide has a gene of this name", "2 folds, 1 seed"]
    assert "| Predictor" not in text
    assert "RND: no slide has" in (tmp_path / "markers.tex").read_text()
    texreader.read((tmp_path / "markers.tex").read_text())
    assert "RND" in layout.console(tables.read_page(tmp_path / "markers.csv"))


def test_a_panel_marker_that_no_test_slide_measures_is_listed():
    genes = gene_table(genes_of("STNet", {"MIA": 0.1, "X": 0.5}, measured={"MIA": False}, markers=["MIA"]))
    table = marker_table(genes, {"READ": ["MIA"]}, {("READ", "paper", "MIA"): {"S1"}})
    assert table[["gene", "predictor", "n_slides"]].to_numpy().tolist() == [["MIA", "", 0]]


def test_without_markers_the_table_is_empty_and_says_why(markers, tmp_path):
    tables.write_table(marker_table(markers, {"READ": []}, {}), tmp_path / "markers.csv")
    assert tables.read_table(tmp_path / "markers.csv").empty
    assert "No marker genes are configured." in (tmp_path / "markers.md").read_text()


def test_cohorts_with_markers_of_their_own_have_a_latex_table_each(markers, tmp_path):
    other = markers.assign(cohort="SKCM", gene=markers["gene"].replace({"MIA": "PMEL", "TYR": "MLANA"}))
    both = marker_table(pd.concat([markers, other]), {"READ": ["MIA"], "SKCM": ["MLANA", "PMEL", "MITF"]}, {})
    tables.write_table(both, tmp_path / "markers.csv")
    found = texreader.read((tmp_path / "markers.tex").read_text())["paper"]
    assert found.cells("READ")["STNet"] == {"MIA": "0.300 ± 0.141", "constant": "0 of 1"}
    assert found.cells("SKCM")["STNet"] == {"MLANA": "0.600", "PMEL": "0.300 ± 0.141", "constant": "0 of 1.5"}


def test_slides_that_lack_a_marker_are_read_from_what_the_folds_report(tmp_path):
    """Reports as `select_genes` makes them and the workflow writes them, under the patient protocol."""

    def slide(*genes):
        return anndata.AnnData(np.ones((3, len(genes)), np.float32), var=pd.DataFrame(index=list(genes)))

    slides = {"S1": slide("A", "B"), "S2": slide("A", "C"), "S3": slide("A", "B", "C")}
    paths = []
    for fold, left_out in enumerate(slides):
        chooses = {name: content for name, content in slides.items() if name != left_out}
        _, report = select_genes(chooses, 10, ["A", "B", "C", "RND"])
        paths.append(tmp_path / f"folds/READ/patient/fold{fold}/markers.tsv")
        paths[-1].parent.mkdir(parents=True)
        report.to_csv(paths[-1], sep="\t", index=False)
    assert lacking_slides(paths) == {
        ("READ", "patient", "B"): {"S2"},
        ("READ", "patient", "C"): {"S1"},
        ("READ", "patient", "RND"): {"S1", "S2", "S3"},
    }
