"""Coordinates are read by name, agree with the file's other copies, and lie apart from each other on the slide."""

import anndata
import numpy as np
import pandas as pd
import pytest

from countedslides import slide
from spotwise.constants import SPATIAL
from spotwise.data.coordinates import check_places, compare_with_obs, on_slide, scale_factors, spot_centres
from spotwise.data.counts import clean_counts
from spotwise.errors import InputError

PXL_COL, PXL_ROW = "pxl_col_in_fullres", "pxl_row_in_fullres"
COLUMN, ROW = (index.ravel() for index in np.meshgrid(np.arange(6), np.arange(4)))
CENTRES = np.stack([1000.0 + 200 * COLUMN, 3000.0 + 200 * ROW], axis=1)  # (24, 2), x and y
BARCODES = ["".join("ACGT"[(spot >> 2 * digit) & 3] for digit in range(16)) + "-1" for spot in range(24)]


def spots(spatial=CENTRES, barcodes=None, uns=None, **obs):
    names = barcodes or [f"{row:03d}x{column:03d}" for row, column in zip(ROW, COLUMN, strict=True)]
    adata = slide(np.ones((len(names), 1), np.float32), ["A"], names, spatial, uns={"spatial": uns or {}})
    return adata[:].copy() if not obs else _with(adata, obs)


def shifted(x, y):
    return CENTRES + np.array([x, y])


def _with(adata, obs):
    adata.obs = adata.obs.assign(**obs)
    return adata


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("x", "y"),
        ("X", "Y"),
        (PXL_COL, PXL_ROW),
        ("pxl_col", "pxl_row"),
        ("imagecol", "imagerow"),
    ],
)
@pytest.mark.parametrize("exchanged", [False, True])
def test_a_table_is_read_by_the_names_of_its_columns(tmp_path, x, y, exchanged):
    adata = spots()
    table = pd.DataFrame({x: CENTRES[:, 0], y: CENTRES[:, 1], "array_row": ROW}, index=adata.obs_names)
    adata.obsm[SPATIAL] = table[[y, "array_row", x] if exchanged else [x, y]]
    adata.write_h5ad(tmp_path / "S1.h5ad")
    np.testing.assert_array_equal(spot_centres(anndata.read_h5ad(tmp_path / "S1.h5ad"), "S1"), CENTRES)


@pytest.mark.parametrize("dtype", ["Int64", "int32", "float32"])
def test_a_table_may_hold_any_numbers(dtype):
    adata = spots()
    adata.obsm[SPATIAL] = pd.DataFrame(CENTRES, adata.obs_names, ["x", "y"]).astype(dtype)
    np.testing.assert_array_equal(spot_centres(adata, "S1"), CENTRES)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"a": 1.0, "b": 2.0}, r"found columns a, b, expected one pair of columns named x/y, pxl_col"),
        ({"0": 1.0, "1": 2.0}, r"found columns 0, 1, expected one pair"),
        ({"x": 1.0, "pxl_row": 2.0}, r"found columns x, pxl_row, expected one pair"),
        ({"x": 1.0, "y": 2.0, "pxl_row": 2.0, "pxl_col": 1.0}, r"found columns x, y, pxl_row, pxl_col, expected one"),
        ({"x": "1", "y": "2"}, r"found columns of type \w+, \w+, expected numbers"),
        ({"x": True, "y": False}, r"found columns of type bool, bool, expected numbers"),
        ({"x": pd.NA, "y": 2}, r"found columns of type object, int64"),
    ],
)
def test_a_table_whose_axes_are_not_known_is_refused(columns, complaint):
    adata = spots()
    adata.obsm[SPATIAL] = pd.DataFrame(columns, index=adata.obs_names)
    with pytest.raises(InputError, match=rf'^S1: obsm\["spatial"\]: {complaint}'):
        spot_centres(adata, "S1")


def test_a_missing_value_in_a_table_is_named():
    adata = spots()
    table = pd.DataFrame(CENTRES, adata.obs_names, ["y", "x"]).astype("Int64")
    table.loc["000x002", "y"] = pd.NA
    adata.obsm[SPATIAL] = table
    with pytest.raises(InputError, match=r"found \(3000, nan\) at spot '000x002', expected finite"):
        spot_centres(adata, "S1")


# --- contradictions with obs -----------------------------------------------------------------------------------------


def compare(spatial, x, y, names=(PXL_COL, PXL_ROW), **parts):
    adata = spots(spatial, parts.pop("barcodes", None), parts.pop("uns", None), **{names[0]: x, names[1]: y}, **parts)
    return compare_with_obs(spatial, adata, "S1")


@pytest.mark.parametrize("names", [(PXL_COL, PXL_ROW), ("pxl_col", "pxl_row")])
def test_equal_coordinates_in_obs_are_no_contradiction(names):
    x, y = CENTRES.T
    assert compare(CENTRES, x, y, names) == []
    assert compare(CENTRES + 0.4, np.round(x), np.round(y), names) == []
    assert compare(CENTRES, np.where(COLUMN == 2, np.nan, x), y, names) == []
    assert compare(CENTRES, x.astype(int).astype(str), y, names) == []
    assert compare(CENTRES, ["?"] * 24, y, names) == []  # nothing to compare with


def test_a_file_without_pixel_columns_or_with_those_before_realignment_is_no_contradiction():
    old = spots(pxl_col_in_fullres_old=CENTRES[:, 1], pxl_row_in_fullres_old=CENTRES[:, 0])
    assert compare_with_obs(CENTRES, spots(), "S1") == compare_with_obs(CENTRES, old, "S1") == []


@pytest.mark.parametrize("names", [(PXL_COL, PXL_ROW), ("pxl_col", "pxl_row")])
def test_exchanged_axes_are_refused(names):
    x, y = CENTRES.T
    expected = rf'^S1: obsm\["spatial"\]: found the axes of obs\["{names[0]}"\].*exchanged, expected \(x, y\)'
    with pytest.raises(InputError, match=expected):
        compare(CENTRES[:, ::-1], x, y, names)
    adata = spots(CENTRES[:, ::-1], BARCODES, **{names[1]: y, names[0]: x})
    with pytest.raises(InputError, match=expected):  # Space Ranger's own order of columns is no sign of scanpy
        compare_with_obs(CENTRES[:, ::-1], adata, "S1")


def test_names_exchanged_by_scanpy_are_warned_about():
    y, x = CENTRES.T  # scanpy calls the row of the pixel "col"
    (warning,) = compare(CENTRES, x, y, barcodes=BARCODES)
    assert "as scanpy and squidpy name them" in warning
    assert len(compare(CENTRES, x, y, barcodes=BARCODES, array_row=ROW, array_col=COLUMN)) == 1
    with pytest.raises(InputError, match="exchanged"):  # the array says that the rows run along x
        compare(CENTRES, x, y, barcodes=BARCODES, array_row=COLUMN, array_col=ROW)


@pytest.mark.parametrize("factor", [0.1, 0.5, 2, 4.3])
def test_scaled_coordinates_are_refused_with_the_factor(factor):
    with pytest.raises(InputError, match=rf"found {factor} times obs\[.*\], expected the same coordinates in both"):
        compare(factor * CENTRES, *CENTRES.T)


def test_a_factor_of_scale_is_named_and_a_small_one_warned_about():
    uns = {"lib": {"scalefactors": {"tissue_hires_scalef": 0.0801, "spot_diameter_fullres": 0.08}}}
    with pytest.raises(InputError, match=r"found 0\.08 times .* \(tissue_hires_scalef is 0\.0801\)"):
        compare(0.08 * CENTRES, *CENTRES.T, uns=uns)
    (warning,) = compare(1.1 * CENTRES, *CENTRES.T)
    assert warning.startswith('obsm["spatial"] holds 1.1 times obs["pxl_col_in_fullres"]')


def test_coordinates_that_moved_together_are_warned_about():
    x, y = CENTRES.T
    for moved in (shifted(300, 400), shifted(300, 400)[:, ::-1] * [1, -1] + [0, 9000]):  # cropped, and turned
        (warning,) = compare(moved, x, y)
        assert 'px (median) from obs["pxl_col_in_fullres"]' in warning
    (warning,) = compare(shifted(30, 40), x, y)
    assert 'obsm["spatial"] is 50 px (median) from obs' in warning


def test_coordinates_of_other_spots_or_mirrored_ones_are_refused():
    x, y = CENTRES.T
    shuffled = np.random.default_rng(0).permutation(CENTRES)
    for wrong in (shuffled, CENTRES * [-1, 1] + [9000, 0], CENTRES * 3 + 500):
        with pytest.raises(
            InputError, match=r"found spots \d+ px \(median\) from obs.* expected the same coordinates in"
        ):
            compare(wrong, x, y)


def test_contradictions_reach_the_qc_of_a_slide():
    adata = spots(CENTRES, pxl_col=CENTRES[:, 0] - 20, pxl_row=CENTRES[:, 1])
    assert clean_counts(adata, "S1", None, 1, "S1")[1]["warnings"] == [
        'obsm["spatial"] is 20 px (median) from obs["pxl_col"] and obs["pxl_row"]; obsm["spatial"] is used'
    ]


@pytest.mark.parametrize(
    "uns", ["none", np.zeros(3), {}, {"a": None}, {"a": {"scalefactors": None}}, {"a": {"scalefactors": {"x": "1"}}}]
)
def test_scale_factors_of_any_form_are_read(uns):
    assert scale_factors({"spatial": uns}) == scale_factors({}) == {}


def test_scale_factors_are_those_of_the_only_library():
    library = {"scalefactors": {"tissue_hires_scalef": np.float32(0.5), "bin_size_um": 8, "flag": True, "none": np.nan}}
    assert scale_factors({"spatial": {"a": library, "is_single": True}}) == {
        "tissue_hires_scalef": 0.5,
        "bin_size_um": 8,
    }
    assert scale_factors({"spatial": {"a": library, "b": library}}) == {}


# --- places ----------------------------------------------------------------------------------------------------------


def check(adata, kept=None):
    check_places(adata.obsm[SPATIAL], adata, np.ones(adata.n_obs, bool) if kept is None else kept, "S1")


def doubled(second, **obs):
    """Two copies of the array in one file, the second at ``second``."""
    names = [*BARCODES, *(f"{name[:-1]}2" for name in BARCODES)] if not obs else [f"s{n}" for n in range(48)]
    return spots(np.concatenate([CENTRES, second]), names, **obs)


@pytest.mark.parametrize("column", ["library_id", "sample"])
@pytest.mark.parametrize("shift", [(0, 0), (37, -61), (100, 0)])
def test_two_slides_on_top_of_each_other_are_refused(column, shift):
    with pytest.raises(InputError, match=rf'several slides on top of each other \(obs\["{column}"\]: a, b\)'):
        check(doubled(shifted(*shift), **{column: ["a"] * 24 + ["b"] * 24}))
    with pytest.raises(InputError, match=r"several slides .* \(parts of the barcodes: \*-1, \*-2\)"):
        check(doubled(shifted(*shift)))
    for name in ("{}-0 {}-1", "a_{}-1 b_{}-1", "000x{}-1 000x{}-2"):  # as concatenated by AnnData, and by hand
        names = [part.format(spot) for part in name.split() for spot in (BARCODES if "000x" not in name else range(24))]
        with pytest.raises(InputError, match=r"several slides .* \(parts of the barcodes: "):
            check(spots(np.concatenate([CENTRES, shifted(*shift)]), names))


def test_two_sections_beside_each_other_are_one_slide():
    check(doubled(shifted(1300, 0), sample=["a"] * 24 + ["b"] * 24))
    check(doubled(shifted(0, 2000)))
    check(spots(sample=np.where(COLUMN < 3, "left", "right")))
    check(spots(sample=np.where((COLUMN + ROW) % 2, "even", "odd")))  # a label that changes from spot to spot
    check(spots(sample=[str(spot) for spot in range(24)]))


def test_two_spots_at_one_place_are_refused_unless_one_is_dropped():
    centres = CENTRES.copy()
    centres[7] = centres[3]
    adata = spots(centres, uns={"a": {}, "b": {}})
    with pytest.raises(
        InputError, match=r"found 2 spots that share their place, first '000x003' and '001x001' at \(1600"
    ):
        check(adata)
    check(adata, np.arange(24) != 7)
    adata.X[7] = 0  # as the corner of a raw matrix
    assert clean_counts(adata, "S1", None, 1, "S1")[0].n_obs == 23


# --- on the slide ----------------------------------------------------------------------------------------------------


def test_empty_spots_beyond_the_picture_are_no_reason_to_refuse():
    size, empty = (3000, 4000), np.zeros(24, bool)
    centres = CENTRES.copy()
    centres[:6] = [-1567, -30]
    names = spots().obs_names
    empty[:6] = True
    for outside in ("error", "drop"):
        np.testing.assert_array_equal(on_slide(centres, size, names, outside, "S1", empty), ~empty)
    with pytest.raises(InputError, match=r"found 6 of 24 spots off the slide, first '000x000' at \(-1567, -30\)"):
        on_slide(centres, size, names, "drop", "S1")
    adata = spots(centres, in_tissue=(~empty).astype(int))
    with pytest.raises(InputError, match="found 6 of 24 spots off the slide"):
        clean_counts(adata, "S1", size, 1, "S1")
    adata.X[empty] = 0
    cleaned, qc = clean_counts(adata, "S1", size, 1, "S1")
    assert (cleaned.n_obs, qc["n_spots_off_slide"]) == (18, 6)
    assert qc["warnings"] == ["6 of 24 spots lie off the slide and were dropped"]


@pytest.mark.parametrize(
    ("n_off", "outside", "remedy"),
    [
        (2, "error", "; expression.outside: drop would drop these spots"),
        (3, "error", "; expression.outside: drop drops at most 10% of the spots: check the scale"),
        (3, "drop", "; expression.outside: drop drops at most 10% of the spots: check the scale"),
    ],
)
def test_the_remedy_for_spots_off_the_slide_is_one_that_works(n_off, outside, remedy):
    centres = CENTRES.copy()
    centres[:n_off] = [5000, 5]
    with pytest.raises(InputError, match=remedy):
        on_slide(centres, (4000, 4000), spots().obs_names, outside, "S1")
    if "would drop" in remedy:
        assert on_slide(centres, (4000, 4000), spots().obs_names, "drop", "S1").sum() == 24 - n_off
