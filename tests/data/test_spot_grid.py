"""Spots lie on a grid where their patch is mostly tissue, or where the user puts them."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import shapely

from spotwise.data.patches import patch_corners
from spotwise.data.spot_array import array_pitch
from spotwise.data.spot_grid import (
    centres_pitch,
    grid_pitch,
    place_spots,
    read_centres,
    tissue_shares,
    write_spots,
)
from spotwise.errors import InputError

SIZE, UM_PER_PX = (8000, 6000), 0.5  # 4 x 3 mm
DISC = shapely.Point(4000, 3000).buffer(2500)
TISSUE = shapely.MultiPolygon([DISC.difference(shapely.box(3500, 2500, 4500, 3500)), shapely.box(0, 0, 700, 700)])


def placed(layout="hexagonal", pitch_um=100.0, tissue=TISSUE, **settings):
    return place_spots(tissue, UM_PER_PX, layout, pitch_um, SIZE, **settings)


def centres(spots):
    return spots[["x", "y"]].to_numpy()


def nearest(spots):
    distance = np.linalg.norm(centres(spots)[:, None] - centres(spots)[None], axis=2)
    return np.sort(distance, axis=1)


# --- grids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "pitch_um", "n_near"), [("hexagonal", 100, 6), ("square", 150, 4), ("dense", 100, 4)]
)
def test_neighbours_of_a_spot_are_a_pitch_away(layout, pitch_um, n_near):
    pitch_px = grid_pitch(layout, pitch_um) / UM_PER_PX
    distances = nearest(placed(layout, pitch_um))
    np.testing.assert_allclose(distances[:, 1], pitch_px)
    inner = np.isclose(distances[:, n_near], pitch_px)
    assert inner.mean() > 0.6
    assert (distances[inner, n_near + 1] > 1.4 * pitch_px).all()


def test_positions_count_columns_of_a_staggered_array_in_half_pitches_as_visium():
    spots = placed()
    assert ((spots["array_row"] + spots["array_col"]) % 2 == 0).all()
    y, x = np.array([spots["array_row"] * 200 * 3**0.5 / 2, spots["array_col"] * 100])
    assert np.ptp(spots["y"] - y) == pytest.approx(0, abs=1e-6)
    assert np.ptp(spots["x"] - x) == pytest.approx(0, abs=1e-6)
    assert spots.index.is_unique
    assert spots.index[5] == f"{spots['array_row'].iloc[5]}x{spots['array_col'].iloc[5]}"


def test_dense_patches_overlap_by_half_whatever_the_pitch():
    pd.testing.assert_frame_equal(placed("dense", 100), placed("dense", 300))
    assert grid_pitch("dense", 300) == 56


def test_patches_lie_on_the_slide_and_are_half_tissue():
    everywhere = shapely.MultiPolygon([shapely.box(0, 0, *SIZE)])
    for layout in ("hexagonal", "square", "dense"):
        corners, edge = patch_corners(centres(placed(layout, tissue=everywhere)), UM_PER_PX)
        assert (corners >= 0).all()
        assert (corners + edge <= SIZE).all()
        assert (SIZE - (corners + edge).max(axis=0) < grid_pitch(layout, 100) / UM_PER_PX).all()  # none is missing
    kept, all_spots = placed("square"), placed("square", tissue=everywhere)
    share = tissue_shares(TISSUE, centres(all_spots), UM_PER_PX)
    assert set(kept.index) == set(all_spots.index[share >= 0.5])
    assert 0 < (share >= 0.5).mean() < 1


@pytest.mark.parametrize("um_per_px", [0.25, 0.5, 0.688])
def test_the_share_of_tissue_is_that_of_the_patchs_pixels(um_per_px):
    """Compared with a mask of whole pixels of the whole slide."""
    tissue = shapely.MultiPolygon([shapely.box(100, 50, 503, 377), shapely.box(600, 50, 700, 900)])
    mask = np.zeros((1000, 1000), bool)
    mask[50:377, 100:503], mask[50:900, 600:700] = True, True
    spots = np.random.default_rng(0).uniform(250, 750, (200, 2))
    corners, edge = patch_corners(spots, um_per_px)
    expected = [mask[y : y + edge, x : x + edge].sum() / edge**2 for x, y in corners]
    np.testing.assert_allclose(tissue_shares(tissue, spots, um_per_px), expected)


def test_holes_are_no_tissue():
    spots = placed("dense")
    in_hole = spots["x"].between(3650, 4350) & spots["y"].between(2650, 3350)
    assert not in_hole.any()


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"layout": "hexagon"}, "grid: layout: found hexagon, expected one of hexagonal, .*did you mean 'hexagonal'"),
        ({"pitch_um": 0.5}, "grid: pitch_um: found .* positions on a.svs, expected at most 1,000,000"),
        (
            {"tissue": shapely.MultiPolygon([shapely.box(0, 0, 4000, 60)])},
            "a.svs: tissue: found no patch of 112 um that is 50% tissue",
        ),
        ({"tissue": shapely.MultiPolygon()}, "a.svs: tissue: found no patch of 112 um"),
    ],
    ids=["layout", "pitch", "strip", "no tissue"],
)
def test_what_leaves_no_grid_is_refused(settings, found):
    with pytest.raises(InputError, match=found):
        placed(**{"layout": "square", "source": "a.svs"} | settings)


# --- the user's centres -----------------------------------------------------------------------------------------------


def table(folder, content, name="spots.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def read(path):
    return read_centres(path, TISSUE, UM_PER_PX, SIZE)


def test_centres_are_kept_with_their_share_of_tissue(tmp_path):
    spots, warnings = read(table(tmp_path, "barcode,x,y,note\nA,4000,1000.5,good\nB,4000,3000,hole\nC,300,300,\n"))
    assert spots.index.tolist() == ["A", "B", "C"]
    assert centres(spots).tolist() == [[4000, 1000.5], [4000, 3000], [300, 300]]
    assert spots["tissue_share"].tolist() == [1, 0, 1]
    assert warnings == [f"1 of 3 spots in {tmp_path / 'spots.csv'} are less than half on tissue, and are kept"]


def test_positions_come_from_the_table_or_from_the_pitch(tmp_path):
    content = "x,y,array_row,array_col\n1000,1000,7,3\n1200,1000,7,5\n"
    spots, _ = read(table(tmp_path, content))
    assert spots.index.tolist() == ["7x3", "7x5"]
    assert spots[["array_row", "array_col"]].to_numpy().tolist() == [[7, 3], [7, 5]]
    spots, _ = read(table(tmp_path, "X\tY \n1000\t1000\n1200\t1000\n1200\t1400\n", "spots.tsv"))
    assert spots.index.tolist() == ["0x0", "0x1", "2x1"]
    assert centres_pitch(spots, UM_PER_PX) == 100


def test_spots_outside_the_slide_and_repeated_ones_are_dropped_and_counted(tmp_path):
    spots, warnings = read(table(tmp_path, "barcode,x,y\nA,4000,1000\nB,9000,10\nC,-1,10\nD,4000,1000\nE,3000,1500\n"))
    assert spots.index.tolist() == ["A", "E"]
    assert [warning.split(" spots")[0] for warning in warnings] == ["2 of 5", "1 of 5"]


def test_a_single_spot_is_read(tmp_path):
    spots, _ = read(table(tmp_path, "x,y\n4000,1000\n"))
    assert spots.index.tolist() == ["0x0"]
    assert centres_pitch(spots, UM_PER_PX) == 112


def test_irregular_spots_without_barcodes_are_numbered(tmp_path):
    """Cells 1 um apart beside spots 100 um apart share their estimated position."""
    spots, _ = read(table(tmp_path, "x,y\n1000,1000\n1200,1000\n1400,1000\n1600,1000\n1602,1000\n"))
    assert spots.index.tolist() == ["0", "1", "2", "3", "4"]


def test_names_of_spots_stay_text(tmp_path):
    names = ["NA", "nan", "1e5", "007", "7", "b'x'"]
    rows = "".join(f"{name},{1000 + 300 * number},1000\n" for number, name in enumerate(names))
    spots, _ = read(table(tmp_path, f"barcode,x,y\n{rows}"))
    assert spots.index.tolist() == [*names[:5], "x"]  # bytes as text, which the patches' reader cleans, too


WRONG = {
    "no x": ("a,y\n1,2\n", "columns: found a, y, expected a CSV with the columns x and y"),
    "two x": ("x,X,y\n1,2,3\n", "columns: found x, x, y, expected"),
    "text": ("x,y\n1,2\n3,four\n", "y: found 'four' in row 2, expected a number in each of the 2 rows"),
    "NaN": ("x,y\n,2\n", "x: found '' in row 1, expected a number"),
    "infinite": ("x,y\ninf,2\n", "x: found 'inf' in row 1"),
    "no rows": ("x,y\n", "spots: found no rows"),
    "empty": ("", "spots: found an empty file"),
    "outside": (
        "x,y\n9000,7000\n",
        r"spots: found no spot on the slide, the first at \(9000, 7000\), expected x b",
    ),
    "repeated barcode": ("barcode,x,y\nA,1,2\nA,3,4\n", "barcode: found 'A' twice, expected each barcode once"),
    "no barcode": ("barcode,x,y\nA,1,2\n,3,4\n", "barcode: found none in row 2"),
    "half a row": ("x,y,array_row,array_col\n1,2,0.5,1\n", "array_row: found 0.5, expected whole numbers"),
    "surplus cells": ("x,y\n1,2,3\n4,5,6\n", "columns: found more cells in a row than the 2 in the header"),
    "ragged": ("x,y\n1,2\n1,2,3\n", "spots: found no table"),
}


@pytest.mark.parametrize(("content", "found"), WRONG.values(), ids=WRONG)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, content, found):
    with pytest.raises(InputError, match=rf"spots\.csv: {found}") as error:
        read(table(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"spots\.csv: spots: found no such file"):
        read(tmp_path / "spots.csv")


# --- file -------------------------------------------------------------------------------------------------------------


def test_spots_are_written_as_an_anndata_without_genes(tmp_path):
    spots = placed()
    write_spots(spots, 100, tmp_path / "spots.h5ad")
    read_back = anndata.read_h5ad(tmp_path / "spots.h5ad")
    assert read_back.shape == (len(spots), 0)
    assert read_back.obs_names.tolist() == spots.index.tolist()
    assert list(read_back.obs) == ["array_row", "array_col", "in_tissue", "tissue_share"]
    assert set(read_back.obs["in_tissue"]) == {1}
    assert read_back.obs["tissue_share"].between(0.5, 1).all()
    np.testing.assert_array_equal(read_back.obsm["spatial"], centres(spots))
    assert read_back.uns["spot_pitch_um"] == 100
    assert array_pitch(read_back) * UM_PER_PX == pytest.approx(100)
    before = (tmp_path / "spots.h5ad").read_bytes()
    write_spots(placed(), 100, tmp_path / "spots.h5ad")
    assert (tmp_path / "spots.h5ad").read_bytes() == before
