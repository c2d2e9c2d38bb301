"""The pitch is the usual distance between spots, and array positions count in pitches."""

import anndata
import numpy as np
import pandas as pd
import pytest

from spotwise.constants import SPATIAL
from spotwise.data.spot_array import array_pitch, array_positions, is_regular, spot_pitch


def test_the_pitch_is_the_median_distance_to_the_nearest_spot():
    spatial = np.array([[0, 0], [3, 4], [30, 40], [31, 40], [100, 100]], dtype=float)
    distance = np.linalg.norm(spatial[:, None] - spatial[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert spot_pitch(spatial) == np.median(distance.min(axis=1)) == 5


def test_a_single_spot_has_no_pitch_and_coincident_spots_one_of_zero():
    assert spot_pitch(np.zeros((1, 2))) == np.inf
    assert spot_pitch(np.zeros((3, 2))) == 0


def placed(spatial, **obs):
    n = len(spatial)
    return anndata.AnnData(
        np.zeros((n, 1)), obs=pd.DataFrame(obs, index=[f"{i}" for i in range(n)]), obsm={SPATIAL: spatial}
    )


def test_array_positions_are_those_of_the_file_counted_from_zero():
    lognorm = placed(np.zeros((3, 2)), array_row=[5, 7, 5], array_col=[40, 40, 43])
    assert array_positions(lognorm).tolist() == [[0, 0], [2, 0], [0, 3]]


@pytest.mark.parametrize("columns", [{}, {"array_row": ["?"] * 24, "array_col": range(24)}])
def test_array_positions_without_columns_of_numbers_count_the_steps_between_spots(columns):
    row, column = (index.ravel() for index in np.indices((4, 6)))
    jitter = np.random.default_rng(0).normal(0, 5, (24, 2))
    lognorm = placed(np.stack([900 + 130 * column, 4000 + 130 * row], axis=1) + jitter, **columns)
    assert array_positions(lognorm).tolist() == np.stack([row, column], axis=1).tolist()


def test_a_single_spot_lies_at_the_origin_of_its_array():
    assert array_positions(placed(np.full((1, 2), 700.0))).tolist() == [[0, 0]]


def test_a_grid_with_its_neighbours_is_regular_and_cells_or_a_few_spots_are_not(monkeypatch):
    grid = 7.0 * np.indices((20, 20)).reshape(2, -1).T
    rng = np.random.default_rng(0)
    few = grid[rng.permutation(400)[:30]]
    for most in (20_000, 50):
        monkeypatch.setattr("spotwise.data.spot_array.MANY_SPOTS", most)
        assert is_regular(grid)
        assert is_regular(grid + rng.normal(0, 0.5, grid.shape))
        assert not is_regular(rng.uniform(0, 140, (400, 2)))
        assert not is_regular(few)


def test_the_pitch_of_an_array_is_that_of_neighbouring_positions():
    row, column = np.indices((6, 8)).reshape(2, -1)
    turned = 90.0 * np.stack([0.8 * column - 0.6 * row, 0.6 * column + 0.8 * row], axis=1)
    far_apart = (row % 3 == 0) & (column % 2 == 0)
    square = placed(turned[far_apart], array_row=row[far_apart] + 4, array_col=column[far_apart])
    assert array_pitch(square) is None  # eight spots are too few
    square = placed(turned[column % 2 == 0], array_row=row[column % 2 == 0], array_col=column[column % 2 == 0])
    assert array_pitch(square) == pytest.approx(90)
    visium = placed(
        100.0 * np.stack([column + row % 2 / 2, row * np.sqrt(0.75)], axis=1),
        array_row=row,
        array_col=2 * column + row % 2,
    )
    assert array_pitch(visium) == pytest.approx(100)
    assert array_pitch(placed(turned, array_row=row, array_col=row)) is None  # a line
    assert array_pitch(placed(turned, array_row=row, array_col=np.random.default_rng(0).permutation(column))) is None
    assert array_pitch(placed(turned)) is None
