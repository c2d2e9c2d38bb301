"""Only genes are kept as genes: not antibodies, control features, nor the genes of another species."""

import numpy as np
import pandas as pd
import pytest

from countedslides import dense, slide
from spotwise.data.counts import clean_counts
from spotwise.data.measured_features import CONTROL_FEATURES, check_species, classify_features
from spotwise.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique")


def features(names, source="st/S1.h5ad", **columns):
    return classify_features(pd.DataFrame(columns, index=pd.Index(names, dtype=object)), source)


def clean(counts, names, **columns):
    adata = slide(counts, names)
    for name, values in columns.items():
        adata.var[name] = values
    return clean_counts(adata, "S1", None, 1, "st/S1.h5ad")


# --- names of control features ----------------------------------------------------------------------------------------

CONTROLS = [
    *("BLANK_0001", "BLANK_0001-1", "Blank-1", "blank1", "blank-2", "BLANK1", "Blank_12", "Blank.3"),
    *("NegControlProbe_00042", "NegControlCodeword_0500", "antisense_PROKR2", "UnassignedCodeword_0001"),
    *("DeprecatedCodeword_0343", "Intergenic_Region_1234", "GenomicControl_0007", "GenomicControl"),
    *("Negative1", "Negative10", "NegPrb3", "NegProbe-WTX", "Negative Control 2", "SystemControl12", "FalseCode01"),
    *("DEPRECATED_ENSG00000000001", "ERCC-00002", "ERCC_00130", "ercc-00002", "SIRV1", "LUCIFERASE", "fiducial_01"),
    *("NEGCONTROLPROBE_00042", "NEGATIVE1", "SYSTEMCONTROL1", "FALSECODE01"),  # as `str.upper` leaves them
    *("__no_feature", "__ambiguous[A+B]", "N_unmapped"),
]
# what a pattern that is shorter, unanchored or blind to case would take for controls
GENES = [
    *("BLNK", "NEGR1", "ANTXR1", "DEPDC1", "GENOMICS", "INTS1", "NELFA", "MYBLANK_1", "ANTISENSE_LNCRNA", "ERCC1"),
    *("ERCC2", "ERCC6L2", "ERCC6", "SIRPG", "SIRT1", "LUC7L", "FALSE", "SYSTEM", "NEG", "NEGATIVE", "DEPP1", "FIBP"),
    *("Ercc1", "Blnk", "Negr1", "SYS1", "FCAR", "NA", "NANOG", "LUCIFERASE2", "SYSTEMX"),
]


@pytest.mark.parametrize("name", CONTROLS)
def test_control_features_are_known(name):
    assert CONTROL_FEATURES.match(name)


@pytest.mark.parametrize("name", GENES)
def test_genes_are_not_taken_for_controls(name):
    assert not CONTROL_FEATURES.match(name)


ANTIBODY_NAMES = [
    "CD3E_TotalSeqB",
    "CD8-TotalSeqC0046",
    "CD8_protein",
    "adt_CD4",
    "prot_CD4",
    "CD4.ADT",
    "mouse_IgG2a",
    "IgG1",
]


@pytest.mark.parametrize("name", ANTIBODY_NAMES)
def test_antibodies_are_known_by_name_where_types_are_missing(name):
    cleaned, qc = clean([[5, 900]], ["EPCAM", name])
    assert list(cleaned.var_names) == ["EPCAM"]
    assert qc["other_types_dropped"] == {"antibody by its name": {"n_features": 1, "counts": 900}}


def test_genes_are_not_taken_for_antibodies():
    names = [*GENES, "IGHG1", "IGHM", "Ighg1", "IGKC", "PROTEIN", "ADTRP", "PROX1", "HLA-A", "NKX2-1", "IGM"]
    assert set(features([name for name in names if name != "NA"]).genes) == {name for name in names if name != "NA"}


# --- feature types ----------------------------------------------------------------------------------------------------


def test_an_antibody_of_the_same_symbol_is_not_summed_into_the_gene():
    names, counts = ["EPCAM", "CD3E", "EPCAM-1", "IgG2a"], [[3, 5, 900, 80], [2, 1, 700, 60]]
    types = pd.Categorical(["Gene Expression"] * 2 + ["Antibody Capture"] * 2)
    cleaned, qc = clean(counts, names, feature_types=types)
    assert list(cleaned.var_names) == ["EPCAM", "CD3E"]
    np.testing.assert_array_equal(dense(cleaned), [[3, 5], [2, 1]])
    assert list(cleaned.obs["total_counts"]) == [8, 3]
    assert qc["other_types_dropped"] == {"Antibody Capture": {"n_features": 2, "counts": 1740}}
    assert qc["n_features_merged"] == 0
    assert qc["warnings"] == ["features of other types, which were dropped, hold 99.4% of all counts: Antibody Capture"]


@pytest.mark.parametrize("column", ["feature_types", "feature_type", "Feature_Type", "FeatureTypes"])
@pytest.mark.parametrize("gene", ["Gene Expression", "gene expression", "GENE_EXPRESSION", " Gene-Expression "])
def test_types_are_read_by_any_of_their_names_and_spellings(column, gene):
    found = features(["A", "B", "B-1"], **{column: [gene, gene, "Antibody Capture"]})
    assert found.genes == ["A", "B"]
    assert list(found.types) == ["", "", "Antibody Capture"]


def test_controls_are_known_by_type_or_name_where_the_other_is_wrong():
    names = ["A", "BLANK_0001", "ERCC-00002", "Odd1", "Odd2"]
    kinds = ["Gene Expression", "Gene Expression", "Gene Expression", "Negative Control Codeword", "Blank Codeword"]
    cleaned, qc = clean([[1, 2, 4, 8, 16]], names, feature_types=kinds)
    assert list(cleaned.var_names) == ["A"]
    assert qc["controls_dropped"] == names[1:]
    assert qc["control_share_of_counts"] == pytest.approx(30 / 31)


def test_features_without_a_type_are_dropped_beside_typed_ones_and_counted():
    cleaned, qc = clean([[1, 2, 4]], ["A", "B", "C"], feature_types=["Gene Expression", None, "Gene Expression"])
    assert list(cleaned.var_names) == ["A", "C"]
    assert qc["other_types_dropped"] == {"no type": {"n_features": 1, "counts": 2}}
    assert "1 features without a type in var['feature_types'] were dropped" in qc["warnings"]


@pytest.mark.parametrize("blank", ["", None, "nan", "protein_coding"])
def test_a_column_that_knows_no_gene_expression_leaves_the_genes(blank):
    names = ["A", "B", "BLANK_0001", "CD3_TotalSeqB"]
    cleaned, qc = clean([[1, 2, 4, 8]], names, feature_types=[blank, blank, blank, "Antibody Capture"])
    assert list(cleaned.var_names) == ["A", "B"]
    assert any("has no 'Gene Expression'" in warning for warning in qc["warnings"])


def test_a_file_of_antibodies_alone_is_refused_with_its_types():
    with pytest.raises(InputError, match=r"no gene among 2 features \(2 Antibody Capture\), expected gene symbols"):
        features(["CD3", "CD8"], feature_types=["Antibody Capture"] * 2)


def test_antibodies_that_no_type_tells_apart_are_warned_about_by_their_share():
    _, qc = clean([[3, 5, 900]], ["EPCAM", "CD3E", "EPCAM-1"])
    assert qc["made_unique_share_of_counts"] == pytest.approx(900 / 908)
    assert any("named SYMBOL-1" in warning for warning in qc["warnings"])
    _, qc = clean([[300, 500, 9]], ["EPCAM", "CD3E", "EPCAM-1"])  # HEST's second feature of one symbol
    assert qc["warnings"] == []


# --- names ------------------------------------------------------------------------------------------------------------


def test_missing_names_are_unnamed_whatever_their_form():
    missing = [None, np.nan, pd.NA, "", "<NA>", "nan", "nan-1", "-1", "NA", "N/A", "null", b""]
    found = features(["A", *missing, "NKX2-1"])
    assert found.genes == ["A", "NKX2-1"]
    assert (found.gene[1:-1] == -1).all()


@pytest.mark.parametrize("prefix", ["GRCh38_", "GRCh38______", "hg19_", "GRCh38-", "GRCh38-2020-A_", "human_"])
def test_the_prefix_of_the_only_genome_is_taken_off(prefix):
    names = [f"{prefix}{gene}" for gene in ("EPCAM", "HLA-A", "NKX2-1", "BLNK")]
    found = features(names)
    assert found.genes == ["EPCAM", "HLA-A", "NKX2-1", "BLNK"]
    assert found.warnings == [f"the prefix {prefix} was taken off 4 gene names"]


TWO_GENOMES = {
    "both with a prefix": ["GRCh38_EPCAM", "GRCh38_CD3E", "mm10___Epcam", "mm10___Cd3e"],
    "older prefixes": ["hg19_EPCAM", "hg19_CD3E", "mm10_Epcam"],
    "one without": ["EPCAM", "CD3E", "mm10_Epcam", "mm10_Cd3e"],
    "dashes of Seurat": ["GRCh38-EPCAM", "mm10---Epcam"],
    "rat": ["GRCh38_EPCAM", "Rnor_6.0_Epcam"],
}


@pytest.mark.parametrize("names", TWO_GENOMES.values(), ids=TWO_GENOMES)
def test_genes_of_two_genomes_are_refused_with_the_subset_to_save(names):
    with pytest.raises(InputError, match=r"names of two genomes: .*expected one species; save adata\[:, "):
        features(names)


def test_two_species_in_the_column_genome_are_refused_and_other_references_are_not():
    names = ["EPCAM", "Epcam", "CD3E"]
    with pytest.raises(InputError, match=r"var\['genome'\]: found genes of two species: GRCh38 \(2\), mm10 \(1\)"):
        features(names, genome=["GRCh38", "mm10", "GRCh38"])
    for genome in (["GRCh38"] * 3, ["GRCh38", "", None], ["GRCh38", "virus", "GRCh38"], ["hg19", "GRCh38", "GRCh38"]):
        assert len(features(names, genome=genome).genes) == 3
    types = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    assert features(names, genome=["GRCh38", "mm10", "GRCh38"], feature_types=types).genes == ["EPCAM", "CD3E"]


def test_a_few_names_that_look_like_a_prefix_stay():
    assert features([*(f"GENE{n}" for n in range(200)), "mouse_X"]).genes[-1] == "mouse_X"


def test_numbers_for_names_are_refused_with_the_column_of_symbols():
    with pytest.raises(InputError, match=r"3 of 3 names that are numbers, first 0, .* from var\['gene_name'\]"):
        features([0, 1, 2], gene_name=["A", "B", "C"])


# --- species ----------------------------------------------------------------------------------------------------------

HUMAN = ["EPCAM", "C1orf112", "HLA-A", "MT-CO1", "NKX2-1", *(f"GENE{n}" for n in range(30))]
MOUSE = ["Epcam", "H2-K1", "mt-Co1", "4930402H24Rik", "Gm1992", *(f"Gene{n}" for n in range(30))]


@pytest.mark.parametrize(
    ("genes", "species", "first"),
    [(MOUSE, "Homo sapiens", "'Epcam'"), (HUMAN, "Mus musculus", "'EPCAM'"), (HUMAN, "Rattus norvegicus", "'EPCAM'")],
)
def test_symbols_of_another_species_are_refused(genes, species, first):
    with pytest.raises(InputError, match=f"symbols unlike those of {species}, first {first}, expected symbols written"):
        check_species(genes, species, "st/S1.h5ad")


@pytest.mark.parametrize(
    ("genes", "species"),
    [
        (HUMAN, "Homo sapiens"),
        (HUMAN, "human"),
        (MOUSE, "Mus musculus"),
        (MOUSE, "Rattus norvegicus"),
        (HUMAN, ""),
        (MOUSE, "Danio rerio"),
        (MOUSE[:5], "Homo sapiens"),  # too few to judge
        ([f"C{n}orf{n}" for n in range(1, 40)], "Homo sapiens"),
        ([*HUMAN, *MOUSE[:20]], "Homo sapiens"),
    ],
)
def test_symbols_that_fit_or_cannot_be_judged_pass(genes, species):
    check_species(genes, species, "st/S1.h5ad")
