"""The pitch is the usual distance between spots, and array positions count in pitches."""

import anndata
import numpy as np
import pandas as pd
import pytest

from spotwise.constants import SPATIAL
from spotwise.data.spot_array import array_positions, spot_pitch


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
