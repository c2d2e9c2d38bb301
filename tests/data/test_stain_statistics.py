"""Claims about the statistics of stain and texture."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from spotwise.data.stain_statistics import LAGS, STAINS, WIDTH, stain_statistics
from spotwise.models.images import SYMMETRIES, turn

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


def test_an_image_has_one_finite_row():
    found = stain_statistics(IMAGES)
    assert found.shape == (3, WIDTH)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1:2], stain_statistics(IMAGES[1:2]))


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_turning_an_image_changes_nothing(symmetry):
    import torch

    turned = turn(torch.from_numpy(IMAGES), symmetry).numpy()
    np.testing.assert_allclose(stain_statistics(turned), stain_statistics(IMAGES), rtol=1e-4, atol=1e-5)


def test_glass_has_no_stain_no_texture_and_no_correlation():
    white = stain_statistics(np.full((1, 40, 40, 3), 255, dtype=np.uint8))
    np.testing.assert_allclose(white, 0, atol=1e-6)


def test_pure_stains_are_told_apart():
    """Pixels of one stain alone have the density of its row of `STAINS`, and an amount of it and of no other."""
    amounts = {}
    for stain in (0, 1):
        colour = np.round(256 * np.exp(-0.8 * STAINS[stain]) - 1).astype(np.uint8)
        row = stain_statistics(np.tile(colour, (1, 40, 40, 1)))[0]
        amounts[stain] = row[3:5]  # mean haematoxylin and eosin
    np.testing.assert_allclose(amounts[0], [0.8, 0], atol=0.02)
    np.testing.assert_allclose(amounts[1], [0, 0.8], atol=0.02)


def test_texture_shows_the_distance_at_which_stripes_differ():
    stripes = np.where(np.arange(64) // 8 % 2, 200, 60).astype(np.uint8)
    image = np.broadcast_to(stripes[:, None, None], (64, 64, 3))[None]
    textures = stain_statistics(image)[0, 35 : 35 + 3 * len(LAGS)].reshape(len(LAGS), 3)[:, 0]
    assert textures[LAGS.index(16)] == pytest.approx(0, abs=1e-6)  # a whole period
    assert textures.argmax() == LAGS.index(8)  # half of one


def test_correlations_are_those_of_the_densities():
    density = -np.log((IMAGES[0].reshape(-1, 3).astype(float) + 1) / 256)
    found = stain_statistics(IMAGES[:1])[0, -10]
    assert found == pytest.approx(pearsonr(density[:, 0], density[:, 1])[0], abs=1e-4)
