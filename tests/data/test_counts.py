"""Cleaned counts hold genes in spots and nothing else; values that are not counts are refused in one line."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from countedslides import dense, random_slide, slide
from spotwise.constants import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts
from spotwise.data.genes import normalise
from spotwise.errors import InputError

SLIDE = (1000, 800)  # width, height
pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique")  # they are what is cleaned


def clean(adata, slide_size=SLIDE, min_counts=1):
    return clean_counts(adata, "S1", slide_size, min_counts, "st/S1.h5ad")


# --- cleaning: what is dropped ---------------------------------------------------------------------------------------


def test_control_features_are_dropped_and_do_not_count_towards_a_spots_total():
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


def test_spots_below_min_counts_are_dropped_and_are_named_with_their_totals():
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


def test_features_without_a_name_are_dropped_and_names_are_stripped():
    cleaned, qc = clean(slide([[1, 2, 4, 8]], [" EPCAM ", "", "nan", "CD3E"]))
    assert list(cleaned.var_names) == ["EPCAM", "CD3E"]
    np.testing.assert_array_equal(dense(cleaned), [[1, 8]])
    assert qc["n_unnamed_dropped"] == 2


# --- cleaning: what is kept ------------------------------------------------------------------------------------------


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
    adata.obs[TOTAL_COUNTS] = [99.0, 99.0, 99.0]  # the file's own
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
def test_cleaned_counts_and_dropped_barcodes_survive_the_disk(tmp_path, min_counts, dropped):
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
    for left, right in ((adata, before), (cleaned, counts)):
        np.testing.assert_array_equal(*(sparse.csr_matrix(each.X).toarray() for each in (left, right)))
        pd.testing.assert_frame_equal(left.obs, right.obs)
        assert list(left.var_names) == list(right.var_names)
        assert list(left.uns) == list(right.uns)


# --- cleaning: spots on the tissue ------------------------------------------------------------------------------------

NA = pd.NA
FLAGS = {
    "whole numbers": [1, 0, 1, 0],
    "text of whole numbers": ["1", "0", "1", "0"],
    "text of truth": ["True", "False", "TRUE", "false"],
    "categories": pd.Categorical(["1", "0", "1", "0"]),
    "truth": [True, False, True, False],
    "floats": [1.0, 0.0, 1.0, 0.0],
    "text of floats": ["1.0", "0.0", " 1.0", "0.0 "],
    "bytes": [b"1", b"0", b"1", b"0"],
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_in_tissue_is_read_in_every_form(flags):
    adata = slide([[5], [6], [7], [8]], ["A"])
    adata.obs["in_tissue"] = flags
    cleaned, qc = clean(adata)
    assert list(cleaned.obs["in_tissue"]) == [True, False, True, False]
    assert (qc["n_spots_kept_off_tissue"], qc["n_spots_kept_tissue_unknown"]) == (2, 0)


MISSING = {
    "floats": [1.0, np.nan, 0.0, 0.0],
    "nullable integers": pd.array([1, NA, 0, 0], dtype="Int64"),
    "nullable truth": pd.array([True, NA, False, False], dtype="boolean"),
    "nullable text": pd.array(["1", NA, "0", "0"], dtype="string"),
    "categories": pd.Categorical(["1", None, "0", "0"]),
    "text": ["1", "nan", "0", "0"],
    "objects": np.array([1, None, 0, False], dtype=object),
}


@pytest.mark.parametrize("flags", MISSING.values(), ids=MISSING)
def test_missing_flags_are_counted_and_survive_the_disk(tmp_path, flags):
    adata = slide([[5], [6], [7], [8]], ["A"])
    adata.obs["in_tissue"] = flags
    cleaned, qc = clean(adata)
    assert (qc["n_spots_kept_off_tissue"], qc["n_spots_kept_tissue_unknown"]) == (2, 1)
    assert "in_tissue is missing for 1 of the kept spots" in qc["warnings"]
    cleaned.write_h5ad(tmp_path / "counts.h5ad")
    assert anndata.read_h5ad(tmp_path / "counts.h5ad").obs["in_tissue"].isna().tolist() == [False, True, False, False]


def test_flags_that_are_all_missing_tell_nothing():
    adata = slide([[5], [6]], ["A"])
    adata.obs["in_tissue"] = [np.nan, np.nan]
    cleaned, qc = clean(adata)
    assert cleaned.obs["in_tissue"].isna().all()
    assert "n_spots_kept_off_tissue" not in qc  # rather than 0
    assert qc["warnings"] == ["in_tissue is missing for 2 of the kept spots"]


@pytest.mark.parametrize("flag", ["left", "2", "-1", "0.5", "tissue"])
def test_other_values_of_in_tissue_are_refused(flag):
    adata = slide([[5], [6]], ["A"], ["x", "y"])
    adata.obs["in_tissue"] = ["1", flag]
    with pytest.raises(InputError, match=rf"obs\[.in_tissue.\]: found '{flag}' at spot 'y', expected 1 or 0, true or"):
        clean(adata)


def test_array_positions_are_numbers_or_left_out():
    adata = slide([[5], [6]], ["A"])
    adata.obs["array_row"] = ["3", "4"]
    adata.obs["array_col"] = ["1", "header"]
    cleaned, _ = clean(adata)
    assert list(cleaned.obs["array_row"]) == [3, 4]
    assert "array_col" not in cleaned.obs


# --- cleaning: what is refused ---------------------------------------------------------------------------------------


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
        "all spots would fit with x and y swapped",
    ),
    "all off": (slide([[9], [9]], ["A"], spatial=[[5e3, 5e3], [6e3, 5e3]]), "pixels of another image, or another unit"),
}


@pytest.mark.parametrize(("adata", "complaint"), REFUSED.values(), ids=REFUSED)
def test_malformed_counts_raise_an_error_of_one_line(adata, complaint):
    with pytest.raises(InputError, match=rf"^st/S1\.h5ad: .*{complaint}") as raised:
        clean(adata, min_counts=2)
    assert "\n" not in str(raised.value)


def test_missing_parts_are_named():
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


# --- cleaning: matrices ----------------------------------------------------------------------------------------------


def test_unsorted_and_repeated_entries_are_summed_without_changing_the_input():
    stored = np.array([4.0, 1.0, 2.0, 8.0], np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])
    adata = slide(sparse.csr_matrix(stored, shape=(2, 3)), ["A", "B", "C"])
    before = [part.copy() for part in (adata.X.data, adata.X.indices, adata.X.indptr)]
    np.testing.assert_array_equal(dense(clean(adata)[0]), [[1, 0, 6], [0, 8, 0]])
    for part, as_before in zip((adata.X.data, adata.X.indices, adata.X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, as_before)


def with_entry(at, value):
    def change(values):
        values[at] = value
        return values

    return change


BROKEN_INDICES = {
    "an index beyond the columns": ("indices", with_entry(-1, 40)),
    "a negative index": ("indices", with_entry(2, -1)),
    "fewer indices than values": ("indices", lambda values: values[:-1]),
    "fewer values than the rows point to": ("data", lambda values: values[:-3]),
    "rows that overlap": ("indptr", with_entry(9, 0)),
    "rows from the second value on": ("indptr", with_entry(0, 1)),
    "too few rows": ("indptr", lambda values: values[:-1]),
    "rows that reach too far": ("indptr", with_entry(-1, 10**6)),
}


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("case", BROKEN_INDICES)
def test_index_arrays_that_contradict_each_other_are_refused(tmp_path, form, case):
    name, change = BROKEN_INDICES[case]
    adata = random_slide(2, 40, spots=40)
    adata.X = form(adata.X)
    path = tmp_path / "S1.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        values = file[f"X/{name}"][:]
        del file[f"X/{name}"]
        file[f"X/{name}"] = change(values)
    with pytest.raises(InputError, match=rf"^{path}: (X|file): found ") as raised:
        clean_counts(read_counts(path), "S1", SLIDE, 1, path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_the_first_of_several_wrong_values_is_named_with_its_spot_and_gene(form):
    counts = dense(random_slide(2, 40))
    counts[31, 7], counts[60, 2] = 0.5, -1
    with pytest.raises(InputError, match=r"found 0\.5 at spot '031x001', gene 'G007' \(2 such values\)"):
        clean(slide(form(counts), [f"G{g:03d}" for g in range(40)]))


def test_counts_beyond_the_whole_numbers_of_float32_are_refused():
    assert clean(slide(np.full((2, 1), 2**24), ["A"]))[0].X.max() == 2**24
    with pytest.raises(InputError, match="X: found a count of 16777217, expected counts up to 16777216"):
        clean(slide(np.full((2, 1), 2**24 + 1), ["A"]))
