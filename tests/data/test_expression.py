import json
import math

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spotwise.data import blocks
from spotwise.constants import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.errors import InputError
from spotwise.data.expression import CONTROL_FEATURES, clean_counts, normalise, select_genes
from spotwise.runtime.memory import Free

SLIDE = (1000, 800)  # width, height
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*names are not unique"),  # meant: they are what is cleaned
    pytest.mark.filterwarnings("ignore:Some cells have zero counts"),
    pytest.mark.filterwarnings("ignore:`n_top_genes` > number of normalized dispersions"),
]


def slide(counts, genes, barcodes=None, spatial=None, **parts):
    counts = np.asarray(counts, dtype=np.float32) if isinstance(counts, list) else counts
    spots = counts.shape[0]
    adata = anndata.AnnData(
        counts,
        obs=pd.DataFrame(index=barcodes or [f"{row:03d}x001" for row in range(spots)]),
        var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
        **parts,
    )
    adata.obsm[SPATIAL] = 10.0 + np.arange(2 * spots).reshape(spots, 2) if spatial is None else np.asarray(spatial)
    return adata


def clean(adata, slide_size=SLIDE, min_counts=1):
    return clean_counts(adata, "S1", slide_size, min_counts, "st/S1.h5ad")


def dense(adata):
    return adata.X.toarray()


# --- cleaning: what goes --------------------------------------------------------------------------------------------


CONTROLS = [
    *("BLANK_0001", "BLANK_0001-1", "Blank-1", "NegControlProbe_00042", "NegControlCodeword_0500", "antisense_PROKR2"),
    *("UnassignedCodeword_0001", "DeprecatedCodeword_0343", "Intergenic_Region_1234", "GenomicControl_0007"),
]
# what a pattern that is shorter, unanchored or blind to case would take for controls
GENES = ["BLNK", "NEGR1", "ANTXR1", "DEPDC1", "GENOMICS", "INTS1", "NELFA", "MYBLANK_1", "ANTISENSE_LNCRNA"]


@pytest.mark.parametrize("name", CONTROLS)
def test_control_features_are_known(name):
    assert CONTROL_FEATURES.match(name)


@pytest.mark.parametrize("name", GENES)
def test_genes_are_not_taken_for_controls(name):
    assert not CONTROL_FEATURES.match(name)


def test_control_features_go_and_do_not_count_towards_a_spots_total():
    #      gene, control, gene, control
    counts = [[5, 90, 1, 0], [0, 50, 2, 7], [3, 0, 3, 0]]
    cleaned, qc = clean(slide(counts, ["EPCAM", "BLANK_0001", "BLNK", "NegControlProbe_00042"]), min_counts=3)
    np.testing.assert_array_equal(dense(cleaned), [[5, 1], [3, 3]])  # the second spot has 2 counts on genes, not 59
    assert list(cleaned.var_names) == ["EPCAM", "BLNK"]
    assert list(cleaned.obs[TOTAL_COUNTS]) == [6, 6]
    assert qc["controls_dropped"] == ["BLANK_0001", "NegControlProbe_00042"]
    assert qc["n_controls_dropped"] == 2
    assert qc["control_share_of_counts"] == pytest.approx(147 / 161)
    assert "control features hold 91.3% of all counts" in qc["warnings"]


def test_spots_below_min_counts_go_and_are_named_with_their_totals():
    cleaned, qc = clean(slide([[9, 1], [4, 5], [0, 0], [10, 0]], ["A", "B"], ["w", "x", "y", "z"]), min_counts=10)
    assert list(cleaned.obs_names) == ["w", "z"]
    assert qc["dropped_spots"] == [{"barcode": "x", "total_counts": 9}, {"barcode": "y", "total_counts": 0}]
    assert (qc["n_spots_in"], qc["n_spots_kept"], qc["n_spots_dropped"]) == (4, 2, 2)
    assert qc["warnings"] == ["2 of 4 spots have fewer than 10 counts"]
    assert (qc["median_counts"], qc["median_genes"]) == (10, 1.5)


def test_min_counts_of_zero_keeps_empty_spots_but_no_empty_slide():
    assert clean(slide([[0], [1]], ["A"]), min_counts=0)[0].n_obs == 2
    with pytest.raises(InputError, match="at most 0 counts"):
        clean(slide([[0], [0]], ["A"]), min_counts=0)


def test_dropped_spots_are_listed_up_to_fifty_and_counted_beyond():
    counts = np.zeros((70, 2), dtype=np.uint16)
    counts[-1] = 4
    _, qc = clean(slide(counts, ["A", "B"]))
    assert qc["n_spots_dropped"] == 69
    assert len(qc["dropped_spots"]) == 50


def test_features_of_one_gene_are_summed_in_place_of_the_first():
    # TBCE twice by name, MATR3 by the suffix of AnnData; NKX2-1 is a gene of its own, as no NKX2 is there
    names = ["TBCE", "MATR3", "NKX2-1", "TBCE", "MATR3-1", "EPCAM"]
    cleaned, qc = clean(slide([[1, 2, 4, 8, 16, 32], [0, 0, 0, 3, 0, 0]], names))
    assert list(cleaned.var_names) == ["TBCE", "MATR3", "NKX2-1", "EPCAM"]
    np.testing.assert_array_equal(dense(cleaned), [[9, 18, 4, 32], [3, 0, 0, 0]])
    assert qc["genes_merged"] == ["TBCE", "MATR3"]
    assert qc["n_features_merged"] == 2
    assert (qc["n_features_in"], qc["n_genes_kept"]) == (6, 4)


def test_features_without_a_name_go_and_names_are_stripped():
    cleaned, qc = clean(slide([[1, 2, 4, 8]], [" EPCAM ", "", "nan", "CD3E"]))
    assert list(cleaned.var_names) == ["EPCAM", "CD3E"]
    np.testing.assert_array_equal(dense(cleaned), [[1, 8]])
    assert qc["n_unnamed_dropped"] == 2


# --- cleaning: what stays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int64])
def test_every_form_of_counts_gives_the_same_float32_csr(form, dtype):
    counts = np.array([[0, 3, 1], [40_000, 0, 2]], dtype=dtype)
    cleaned, _ = clean(slide(form(counts), ["A", "B", "C"]))
    assert isinstance(cleaned.X, sparse.csr_matrix)
    assert cleaned.X.dtype == np.float32
    np.testing.assert_array_equal(dense(cleaned), counts)


def test_stored_zeros_are_not_counted_as_genes_of_a_spot():
    stored = sparse.csr_matrix((np.array([1.0, 0.0, 0.0]), np.array([0, 1, 2]), np.array([0, 3])), shape=(1, 3))
    cleaned, qc = clean(slide(stored, ["A", "B", "C"]))
    assert qc["median_genes"] == cleaned.X.nnz == 1


def test_totals_beyond_the_range_of_uint16_do_not_wrap():
    cleaned, _ = clean(slide(np.full((1, 3), 65_535, dtype=np.uint16), ["A", "A", "B"]))
    assert cleaned.obs[TOTAL_COUNTS].iloc[0] == 3 * 65_535
    np.testing.assert_array_equal(dense(cleaned), [[2 * 65_535, 65_535]])


def test_coordinates_array_positions_and_thumbnail_stay_with_their_spots():
    adata = slide([[5], [0], [7]], ["A"], ["x", "y", "z"], [[1, 2], [3, 4], [5.5, 6]])
    adata.obs["in_tissue"] = [1, 1, 0]
    adata.obs["array_row"] = [10, 11, 12]
    adata.obs["array_col"] = [20, 21, 22]
    adata.obs[TOTAL_COUNTS] = [99.0, 99.0, 99.0]  # the file's own, of before
    adata.obs["n_counts"] = 99.0
    adata.uns["spatial"] = {"ST": {"images": {"downscaled_fullres": np.ones((2, 2, 3), np.uint8)}}}
    adata.uns["other"] = 1
    cleaned, qc = clean(adata)
    assert cleaned.obs.to_dict("list") == {
        "in_tissue": [1, 0],
        "array_row": [10, 12],
        "array_col": [20, 22],
        TOTAL_COUNTS: [5, 7],
    }
    np.testing.assert_array_equal(cleaned.obsm[SPATIAL], [[1, 2], [5.5, 6]])
    assert cleaned.obsm[SPATIAL].dtype == np.float64
    assert set(cleaned.uns) == {"spatial", DROPPED}
    assert qc["n_spots_kept_off_tissue"] == 1
    assert json.loads(json.dumps(qc)) == qc


@pytest.mark.parametrize(("min_counts", "dropped"), [(1, ["y"]), (0, [])])
def test_cleaned_counts_survive_the_disk_with_the_barcodes_that_went(tmp_path, min_counts, dropped):
    cleaned, _ = clean(slide([[5, 1], [0, 0], [7, 2]], ["A", "B"], ["x", "y", "z"]), min_counts=min_counts)
    for adata in (cleaned, normalise(cleaned)):
        adata.write_h5ad(tmp_path / "written.h5ad")
        read = anndata.read_h5ad(tmp_path / "written.h5ad")
        np.testing.assert_array_equal(dense(read), dense(adata))
        assert list(read.uns[DROPPED]) == dropped
        assert sorted([*read.obs_names, *read.uns[DROPPED]]) == ["x", "y", "z"]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_cleaning_and_normalising_leave_their_input_unchanged(form):
    adata = slide(form(np.array([[1, 0, 2], [0, 0, 0], [3, 4, 5]], np.float32)), ["A", "BLANK_0001", "A"])
    before = adata.copy()
    cleaned, _ = clean(adata)
    counts = cleaned.copy()
    normalise(cleaned)
    select_genes({"S1": cleaned}, 5, [])
    for left, right in ((adata, before), (cleaned, counts)):
        np.testing.assert_array_equal(*(sparse.csr_matrix(each.X).toarray() for each in (left, right)))
        pd.testing.assert_frame_equal(left.obs, right.obs)
        assert list(left.var_names) == list(right.var_names)
        assert list(left.uns) == list(right.uns)


# --- cleaning: what is refused --------------------------------------------------------------------------------------


def with_value(value):
    counts = np.ones((3, 2))
    counts[1, 1] = value
    return counts


REFUSED = {
    "fraction": (slide(with_value(1.5), ["A", "B"]), r"X: found 1\.5 at spot '001x001', gene 'B' \(1 such values\)"),
    "negative": (slide(with_value(-1), ["A", "B"]), r"X: found -1\.0 at spot '001x001', gene 'B'"),
    "negative integer": (slide(with_value(-1).astype(int), ["A", "B"]), r"X: found -1 at spot '001x001', gene 'B'"),
    "NaN": (slide(sparse.csc_matrix(with_value(np.nan)), ["A", "B"]), r"X: found nan at spot '001x001', gene 'B'"),
    "infinite": (slide(with_value(np.inf), ["A", "B"]), r"X: found inf at spot '001x001', gene 'B'"),
    "empty barcode": (slide([[1], [1]], ["A"], ["x", ""]), "obs index: found '' in row 1"),
    "barcode twice": (slide([[1], [1], [1]], ["A"], ["x", "y", "x"]), "obs index: found barcode 'x' more than once"),
    "no spot": (slide(np.ones((0, 1)), ["A"]), "obs index: found no spot"),
    "no gene": (slide([[1, 1]], ["BLANK_0001", ""]), "var index: found no gene among 2 features"),
    "no counts": (slide([[0, 0]], ["A", "B"]), "X: found at most 0 counts per spot"),
    "no spot left": (slide([[0, 1], [1, 1]], ["BLANK_0001", "B"]), "X: found at most 1 counts per spot"),
    "three columns": (slide([[1]], ["A"], spatial=[[1, 2, 3]]), r"obsm\[.spatial.\]: found shape \(1, 3\)"),
    "text": (slide([[1]], ["A"], spatial=[["a", "b"]]), r"obsm\[.spatial.\]: found values of type"),
    "not finite": (
        slide([[1]], ["A"], spatial=[[1, np.nan]]),
        r"obsm\[.spatial.\]: found \(1, nan\) at spot '000x001'",
    ),
    "right of the slide": (
        slide([[9], [9]], ["A"], spatial=[[5, 5], [1000, 5]]),
        r"found 1 of 2 spots off the slide, first '001x001' at \(1000, 5\), expected x below 1000 and y below 800",
    ),
    "below the slide": (slide([[9]], ["A"], spatial=[[5, 800]]), r"1 of 1 spots off the slide, .* at \(5, 800\)"),
    "left of the slide": (slide([[9]], ["A"], spatial=[[-0.5, 5]]), r"1 of 1 spots off the slide, .* at \(-0\.5, 5\)"),
    "x and y swapped": (
        slide([[9], [9]], ["A"], spatial=[[5, 5], [5, 900]]),
        "with x and y swapped all spots would fit",
    ),
    "all off": (slide([[9], [9]], ["A"], spatial=[[5e3, 5e3], [6e3, 5e3]]), "pixels of another image or unit"),
}


@pytest.mark.parametrize(("adata", "complaint"), REFUSED.values(), ids=REFUSED)
def test_malformed_counts_are_told_in_one_line(adata, complaint):
    with pytest.raises(InputError, match=rf"^st/S1\.h5ad: .*{complaint}") as told:
        clean(adata, min_counts=2)
    assert "\n" not in str(told.value)


def test_missing_parts_are_told():
    adata = slide([[1]], ["A"])
    del adata.obsm[SPATIAL]
    with pytest.raises(InputError, match=r'st/S1\.h5ad: obsm\["spatial"\]: found nothing'):
        clean(adata)
    empty = anndata.AnnData(
        obs=pd.DataFrame(index=["x"]), var=pd.DataFrame(index=["A"]), obsm={SPATIAL: np.ones((1, 2))}
    )
    with pytest.raises(InputError, match=r"st/S1\.h5ad: X: found nothing"):
        clean(empty)


def test_spots_at_the_slides_edges_are_on_it():
    cleaned, _ = clean(slide([[9], [9]], ["A"], spatial=[[0, 0], [999.9, 799.9]]))
    assert cleaned.n_obs == 2


def test_without_a_slide_only_negative_coordinates_are_off():
    assert clean(slide([[9]], ["A"], spatial=[[1e6, 1e6]]), slide_size=None)[0].n_obs == 1
    with pytest.raises(InputError, match=r"at \(-1, 5\), expected no negative coordinates"):
        clean(slide([[9]], ["A"], spatial=[[-1, 5]]), slide_size=None)


def test_ensembl_ids_are_refused_with_the_remedy_unless_they_are_few():
    ids = ["ENSG00000119888", "ENSG00000198851.9", "EPCAM"]
    adata = slide([[1, 2, 3]], ids)
    with pytest.raises(
        InputError, match=r"2 of 3 names that are Ensembl ids, first ENSG00000119888.*an Ensembl annotation"
    ):
        clean(adata)
    adata.var["gene_symbols"] = ["EPCAM", "CD3E", "EPCAM"]
    with pytest.raises(InputError, match=r"set adata\.var_names from var\['gene_symbols'\]"):
        clean(adata)
    assert clean(slide([[1, 2, 3]], ["ENSG00000119888", "CD3E", "EPCAM"]))[0].n_vars == 3


# --- normalisation --------------------------------------------------------------------------------------------------


def test_normalisation_is_the_formula_worked_by_hand():
    # totals 4, 8, 20, 0: their median, spots without counts left out, is 8
    counts = slide([[1, 3], [8, 0], [5, 15], [0, 0]], ["A", "B"])
    result = normalise(counts)
    expected = [[math.log(3), math.log(7)], [math.log(9), 0], [math.log(3), math.log(7)], [0, 0]]
    np.testing.assert_allclose(dense(result), expected, rtol=1e-6)
    assert result.X.dtype == np.float32


def test_an_empty_spot_whose_zeros_are_stored_stays_zero():
    stored = sparse.csr_matrix((np.array([0.0, 0.0, 5.0], np.float32), [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    np.testing.assert_allclose(dense(normalise(slide(stored, ["A", "B"]))), [[0, 0], [0, math.log(6)]], rtol=1e-6)


def test_many_empty_spots_neither_shift_the_target_nor_leave_nan():
    result = normalise(slide([[2, 2], [0, 0], [0, 0], [0, 0], [8, 0]], ["A", "B"]))
    expected = [[math.log(4), math.log(4)], [0, 0], [0, 0], [0, 0], [math.log(7), 0]]
    np.testing.assert_allclose(dense(result), expected, rtol=1e-6)


@pytest.mark.parametrize("target", [None, 1e4])
def test_every_spot_sums_to_the_target_before_the_logarithm(target):
    rng = np.random.default_rng(1)
    counts = rng.negative_binomial(2, 0.2, (40, 60)) * rng.integers(1, 30, (40, 1))
    result = normalise(slide(counts.astype(np.float32), [f"G{g}" for g in range(60)]), target)
    sums = np.expm1(dense(result).astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(sums, target or np.median(counts.sum(axis=1)), rtol=1e-5)


# --- panel ----------------------------------------------------------------------------------------------------------

# Four spots of 1000 counts each, so that normalisation changes nothing. EVEN1..4 hold equal counts everywhere up to +-1
# per spot; a WILD gene swings between 0 and 100 at the same mean as an EVEN one, and BALANCE takes up what is left. The
# dispersion (variance / mean) of a wild gene is then about 60, of an even one about 0.01.
EVEN = {"EVEN1": [50, 51, 50, 51], "EVEN2": [51, 50, 51, 50], "EVEN3": [50, 50, 51, 51], "EVEN4": [51, 51, 50, 50]}
WILD = [0, 100, 0, 100]
STILL = [50, 51, 51, 50]


def worked_slide(wild, others, missing=()):
    columns = EVEN | dict.fromkeys(others, STILL) | {wild: WILD}
    columns = {gene: counts for gene, counts in columns.items() if gene not in missing}
    columns["BALANCE"] = list(1000 - np.sum(list(columns.values()), axis=0))
    return slide(sparse.csr_matrix(np.array(list(columns.values()), dtype=np.float32).T), list(columns))


@pytest.fixture
def cohort():
    # S2 lacks EVEN4 and S3 lacks GENE_Y: both leave the intersection
    return {
        "S1": worked_slide("WILD_A", ["WILD_B", "WILD_C", "GENE_Y"]),
        "S2": worked_slide("WILD_B", ["WILD_A", "WILD_C", "GENE_Y"], missing=["EVEN4"]),
        "S3": worked_slide("WILD_C", ["WILD_A", "WILD_B"]),
    }


def test_panel_is_the_union_of_each_slides_wildest_gene_and_the_markers(cohort):
    # n_top = 1 takes each slide's own WILD gene: the union is A, B, C. EVEN2 comes in as a marker; GENE_Y (not on S3)
    # and EVEN4 (not on S2) are named instead; WILD_A is marker and variable at once.
    panel, markers = select_genes(cohort, 1, ["WILD_A", "GENE_Y", "EVEN2", "EVEN4", "RND"])
    assert panel.to_dict("list") == {
        "gene": ["EVEN2", "WILD_A", "WILD_B", "WILD_C"],
        "n_slides_hvg": [0, 1, 1, 1],
        "is_marker": [True, True, False, False],
    }
    assert markers.to_dict("list") == {
        "marker": ["WILD_A", "GENE_Y", "EVEN2", "EVEN4", "RND"],
        "status": ["in panel", "not measured in S3", "in panel", "not measured in S2", "not measured in S1, S2, S3"],
    }


def test_test_slide_changes_the_paper_panel_and_not_the_patient_panel(cohort):
    # paper: all slides count, so the gene that is wild on the test slide S3 alone enters; patient: training slides only
    training = {sample: cohort[sample] for sample in ("S1", "S2")}
    paper, _ = select_genes(cohort, 1, ["GENE_Y"])
    patient, markers = select_genes(training, 1, ["GENE_Y"])
    assert list(paper["gene"]) == ["WILD_A", "WILD_B", "WILD_C"]
    assert list(patient["gene"]) == ["GENE_Y", "WILD_A", "WILD_B"]  # S3 lacks GENE_Y, which is no matter here
    assert list(markers["status"]) == ["in panel"]


def test_panel_depends_on_neither_the_order_of_slides_nor_of_genes(cohort):
    panel, _ = select_genes(cohort, 2, ["EVEN1"])
    turned = {sample: adata[:, ::-1].copy() for sample, adata in reversed(cohort.items())}
    pd.testing.assert_frame_equal(select_genes(turned, 2, ["EVEN1"])[0], panel)


def generated(seed, genes, spots=80):
    """Counts of many genes with their own mean and dispersion."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0, 1.5, genes)
    r = rng.lognormal(0, 1, genes)
    counts = rng.negative_binomial(r, r / (r + mean), (spots, genes)).astype(np.float32)
    counts[0] += 1  # no gene without counts
    return slide(sparse.csr_matrix(counts), [f"G{g:03d}" for g in range(genes)])


def test_choosing_genes_leaves_the_counts_unchanged():
    adata = generated(1, 60)
    before = dense(adata).copy()
    select_genes({"S1": adata}, 5, [])
    np.testing.assert_array_equal(dense(adata), before)


def test_slides_larger_than_a_block_are_treated_as_smaller_ones(monkeypatch):
    adata = generated(1, 60)
    adata.var_names = [f"G{gene:03d}" for gene in range(57)] + ["G005", "BLANK_0001", "G006-1"]
    adata.X[3:6] = 0
    adata.X.eliminate_zeros()
    before, qc = clean(adata, min_counts=10)
    lognorm, panel = normalise(before), select_genes({"S": before}, 9, [])[0]
    monkeypatch.setattr(blocks, "VALUES_AT_ONCE", 70)
    after, other_qc = clean(adata, min_counts=10)
    assert other_qc == qc
    assert qc["n_spots_dropped"] >= 3
    np.testing.assert_array_equal(dense(after), dense(before))
    np.testing.assert_array_equal(dense(normalise(after)), dense(lognorm))
    pd.testing.assert_frame_equal(select_genes({"S": after}, 9, [])[0], panel)
    adata.X.data[1000] = 0.5
    row = np.searchsorted(adata.X.indptr, 1000, side="right") - 1
    with pytest.raises(InputError, match=f"0.5 at spot '{adata.obs_names[row]}'"):
        clean(adata)


def is_mapped(array):
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


FORMS = {"CSR": sparse.csr_matrix, "CSC": sparse.csc_matrix, "dense": lambda matrix: matrix.toarray()}


@pytest.mark.parametrize("form", FORMS)
def test_counts_that_stay_in_their_file_and_beside_memory_give_the_same_bytes(tmp_path, monkeypatch, form):
    adata = generated(1, 60)
    adata.var_names = [f"G{gene:03d}" for gene in range(57)] + ["G005", "BLANK_0001", "G006-1"]
    cleaned, qc = clean(adata, min_counts=10)
    panel, _ = select_genes({"S": cleaned}, 9, [])
    cleaned.write_h5ad(tmp_path / "counts.h5ad")
    normalise(cleaned).write_h5ad(tmp_path / "lognorm.h5ad")

    adata.X = FORMS[form](adata.X)
    adata.write_h5ad(tmp_path / "slide.h5ad")
    monkeypatch.setattr(blocks, "VALUES_AT_ONCE", 300)
    monkeypatch.setattr(blocks, "free_host", lambda: Free(0, "the test"))
    in_file = anndata.read_h5ad(tmp_path / "slide.h5ad", backed="r")
    again, other_qc = clean_counts(in_file, "S1", SLIDE, 10, "st/S1.h5ad", scratch=tmp_path)
    assert is_mapped(again.X.data)
    assert other_qc == qc
    again.write_h5ad(tmp_path / "counts again.h5ad")
    normalise(again, scratch=tmp_path).write_h5ad(tmp_path / "lognorm again.h5ad")
    for name in ("counts", "lognorm"):
        assert (tmp_path / f"{name} again.h5ad").read_bytes() == (tmp_path / f"{name}.h5ad").read_bytes()
    in_file = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    pd.testing.assert_frame_equal(select_genes({"S": in_file}, 9, [])[0], panel)


def test_entries_in_any_order_and_twice_are_added_up_and_the_input_stays_as_it_is():
    stored = np.array([4.0, 1.0, 2.0, 8.0], np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])
    adata = slide(sparse.csr_matrix(stored, shape=(2, 3)), ["A", "B", "C"])
    before = [part.copy() for part in (adata.X.data, adata.X.indices, adata.X.indptr)]
    np.testing.assert_array_equal(dense(clean(adata)[0]), [[1, 0, 6], [0, 8, 0]])
    for part, as_before in zip((adata.X.data, adata.X.indices, adata.X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, as_before)


def test_a_fault_is_told_with_its_spot_from_whatever_block(tmp_path, monkeypatch):
    adata = generated(2, 40)
    adata.X.data[[500, 1500]] = 0.5, -1
    adata.write_h5ad(tmp_path / "slide.h5ad")
    row = np.searchsorted(adata.X.indptr, 500, side="right") - 1
    monkeypatch.setattr(blocks, "VALUES_AT_ONCE", 70)
    in_file = anndata.read_h5ad(tmp_path / "slide.h5ad", backed="r")
    with pytest.raises(InputError, match=rf"found 0.5 at spot '{adata.obs_names[row]}', gene .* \(2 such values\)"):
        clean(in_file)


def test_a_damaged_part_of_the_counts_is_told_in_one_line(tmp_path):
    adata = generated(2, 40)
    adata.write_h5ad(tmp_path / "slide.h5ad", compression="gzip")
    with h5py.File(tmp_path / "slide.h5ad") as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    with open(tmp_path / "slide.h5ad", "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    with pytest.raises(InputError, match=r"^st/S1\.h5ad: X: found no matrix \(") as told:
        clean(anndata.read_h5ad(tmp_path / "slide.h5ad", backed="r"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("target", [None, 1e4])
def test_panel_equals_scanpy_called_directly(target):
    import scanpy as sc

    slides = {"S1": generated(1, 300), "S2": generated(2, 280)}
    union = set()
    for adata in slides.values():
        direct = adata[:, [f"G{g:03d}" for g in range(280)]].copy()
        sc.pp.normalize_total(direct, target_sum=target)
        sc.pp.log1p(direct)
        sc.pp.highly_variable_genes(direct, n_top_genes=30)
        union |= set(direct.var_names[direct.var["highly_variable"]])
    panel, _ = select_genes(slides, 30, [], target)
    assert list(panel["gene"]) == sorted(union)
    assert 30 < len(union) <= 60
    assert panel["n_slides_hvg"].sum() == 60


def test_dispersion_is_normalised_within_bins_of_the_mean_as_seurat_does():
    # the formula itself, without scanpy: log(variance / mean) standardised within 20 equal bins of log1p(mean)
    adata = generated(3, 250)
    counts = dense(adata).astype(np.float64)
    scaled = counts / counts.sum(1, keepdims=True) * np.median(counts.sum(1))
    frame = pd.DataFrame(
        {"dispersion": np.log(scaled.var(0, ddof=1) / scaled.mean(0)), "mean": np.log1p(scaled.mean(0))}
    )
    bins = frame.groupby(pd.cut(frame["mean"], 20), observed=True)["dispersion"]
    z = (frame["dispersion"] - bins.transform("mean")) / bins.transform("std")
    z[bins.transform("size") == 1] = 1.0
    wanted = sorted(adata.var_names[np.argsort(-z.to_numpy())[:25]])
    assert list(select_genes({"S": adata}, 25, [])[0]["gene"]) == wanted


@pytest.mark.parametrize("n_top", [7, 8, 1000])
def test_all_common_genes_are_kept_where_there_are_no_more_than_asked_for(cohort, n_top):
    panel, _ = select_genes(cohort, n_top, [])
    common = ["BALANCE", "EVEN1", "EVEN2", "EVEN3", "WILD_A", "WILD_B", "WILD_C"]
    assert list(panel["gene"]) == common
    assert set(panel["n_slides_hvg"]) == {3}


def test_with_all_genes_kept_the_silent_ones_are_too():
    panel, _ = select_genes({"S": slide([[1, 5, 0], [2, 3, 0]], ["A", "B", "SILENT"])}, 3, [])
    assert list(panel["gene"]) == ["A", "B", "SILENT"]


def test_spots_without_counts_on_the_common_genes_do_not_change_the_panel():
    adata = generated(4, 200)
    empty = slide(
        sparse.vstack([adata.X, sparse.csr_matrix((20, 200), dtype=np.float32)]).tocsr(), list(adata.var_names)
    )
    pd.testing.assert_frame_equal(select_genes({"S": empty}, 40, [])[0], select_genes({"S": adata}, 40, [])[0])


def test_genes_never_seen_on_a_slide_are_not_chosen_on_it():
    # 60 of 100 genes are silent; asked for 50, only the 40 that vary can be chosen
    adata = generated(5, 100)
    counts = dense(adata)
    counts[:, 40:] = 0
    panel, _ = select_genes({"S": slide(sparse.csr_matrix(counts), list(adata.var_names))}, 50, [])
    assert list(panel["gene"]) == [f"G{g:03d}" for g in range(40)]


def test_slides_that_cannot_give_a_panel_are_named():
    with pytest.raises(InputError, match="S1, S2: genes: found none in common"):
        select_genes({"S1": slide([[1]], ["A"]), "S2": slide([[1]], ["B"])}, 1, [])
    sparse_slide = slide(sparse.csr_matrix(np.array([[1, 1, 0], [0, 0, 0]], np.float32)), ["A", "B", "C"])
    with pytest.raises(InputError, match="S1: spots: found 1 with counts on the 3 common genes"):
        select_genes({"S1": sparse_slide}, 2, [])
