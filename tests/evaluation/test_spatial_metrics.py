"""Claims about maps and their spatial autocorrelation."""

import numpy as np
import pandas as pd
import pytest
from scanpy.metrics import morans_i as scanpy_morans_i
from scipy import sparse

from spotwise.evaluation.spatial_metrics import (
    adjacency,
    gaussian_window,
    morans_i,
    spatial_metrics,
    ssim_map,
    ssim_per_gene,
)

SIDE = 23


def square(side=SIDE, pitch=200.0):
    """Spots of a full square array, row by row."""
    row, column = np.divmod(np.arange(side * side), side)
    return pitch * np.stack([column, row], axis=1).astype(float)


def hexagonal(side=SIDE, pitch=100.0):
    """Spots of a hexagonal array as on Visium: every other row is shifted by half a pitch."""
    row, column = np.divmod(np.arange(side * side), side)
    return pitch * np.stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2], axis=1)


def turned(spatial, degrees):
    angle = np.radians(degrees)
    return spatial @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.fixture
def maps():
    """Two genes on the square array, log-expression with a pattern and noise: prediction, truth."""
    rng = np.random.default_rng(0)
    pattern = 2 + np.sin(square() / 700)
    observed = pattern + 0.3 * rng.normal(size=pattern.shape)
    return 0.6 * pattern + 0.5 + 0.2 * rng.normal(size=pattern.shape), observed


def ssim_of_images(x, y):
    """Wang et al. on two images, pixel by pixel where the whole window of 11 x 11 lies inside: (H - 10, W - 10)."""
    offset = np.arange(-5, 6)
    weights = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * (y.max() - y.min())) ** 2, (0.03 * (y.max() - y.min())) ** 2
    result = np.empty((x.shape[0] - 10, x.shape[1] - 10))
    for i, j in np.ndindex(result.shape):
        a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
        mu_a, mu_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mu_a) ** 2).sum(), (weights * (b - mu_b) ** 2).sum()
        cov = (weights * (a - mu_a) * (b - mu_b)).sum()
        result[i, j] = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return result


def test_ssim_of_a_full_square_array_is_that_of_the_image(maps):
    found = ssim_map(*maps, gaussian_window(square()))
    for gene in range(2):
        image = found[:, gene].reshape(SIDE, SIDE)
        expected = ssim_of_images(*(values[:, gene].reshape(SIDE, SIDE) for values in maps))
        np.testing.assert_allclose(image[5:-5, 5:-5], expected, atol=1e-12)
        assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ssim_per_gene(*maps, gaussian_window(square())), found.mean(axis=0))


def test_the_window_of_an_array_with_holes_is_shared_by_the_spots_that_are_there():
    spatial = hexagonal()[np.random.default_rng(1).random(SIDE * SIDE) < 0.6]
    window = gaussian_window(spatial).toarray()
    np.testing.assert_allclose(window.sum(axis=1), 1)
    for spot in (0, 57, len(spatial) - 1):
        offset = np.abs(spatial - spatial[spot]) / 100
        weights = np.where(offset.max(axis=1) < 5.5, np.exp(-(offset**2).sum(axis=1) / (2 * 1.5**2)), 0)
        np.testing.assert_allclose(window[spot], weights / weights.sum(), atol=1e-15)


def test_a_prediction_equal_to_the_truth_has_ssim_1_and_a_constant_one_about_0(maps):
    _, observed = maps
    window = gaussian_window(square())
    assert ssim_per_gene(observed, observed, window).tolist() == [1, 1]
    constant = np.tile(observed.mean(axis=0), (len(observed), 1))
    np.testing.assert_allclose(ssim_per_gene(constant, observed, window), 0, atol=0.1)
    assert (ssim_per_gene(4 - observed, observed, window) < -0.5).all()


def test_ssim_sees_shrinkage_and_a_wrong_level_that_correlation_does_not(maps):
    _, observed = maps
    window = gaussian_window(square())
    mean = observed.mean(axis=0)
    shrunk = [ssim_per_gene(mean + f * (observed - mean), observed, window)[0] for f in (1, 0.7, 0.4, 0.1)]
    assert shrunk[0] == pytest.approx(1)
    assert (np.diff(shrunk) < -0.04).all()
    assert ssim_per_gene(observed + 2, observed, window)[0] < 0.9


def test_ssim_of_a_constant_truth_is_0_for_any_prediction(maps):
    predicted, observed = maps
    observed[:, 0] = 0.1
    for guess in (predicted, observed):
        ssim = ssim_per_gene(guess, observed, gaussian_window(square()))
        assert ssim[0] == 0
        assert ssim[1] > 0.1


def test_ssim_of_many_genes_is_that_of_each_alone():
    rng = np.random.default_rng(9)
    spatial = square(5)
    predicted, observed = rng.gamma(2, size=(2, 25, 300)).astype(np.float32)  # two blocks of genes
    observed[:, [3, 280]] = 1
    window = gaussian_window(spatial)
    alone = [ssim_per_gene(predicted[:, [g]], observed[:, [g]], window)[0] for g in range(300)]
    np.testing.assert_allclose(ssim_per_gene(predicted, observed, window), alone, atol=1e-12)


@pytest.mark.parametrize(("array", "inside"), [(square, 4), (hexagonal, 6)])
@pytest.mark.parametrize("degrees", [0, 3, 45])
def test_adjacent_spots_are_those_one_pitch_away_though_not_exactly_in_place(array, inside, degrees):
    spatial = array()
    pitch = np.linalg.norm(spatial[1] - spatial[0])
    near = adjacency(turned(spatial + np.random.default_rng(2).uniform(-0.06, 0.06, spatial.shape) * pitch, degrees))
    expected = np.linalg.norm(spatial[:, None] - spatial[None], axis=2).round() == round(pitch)
    np.testing.assert_array_equal(near.toarray(), expected)
    assert near.sum(axis=1).reshape(SIDE, SIDE)[1:-1, 1:-1].tolist() == [[inside] * (SIDE - 2)] * (SIDE - 2)


def test_morans_i_of_four_spots_in_a_row_by_hand():
    near = adjacency(np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]]))
    # deviations -1.5 -0.5 0.5 1.5: products of neighbours 0.75 - 0.25 + 0.75, squares 5; 4 spots, 3 pairs
    # 1 0 0 1: deviations 0.5 -0.5 -0.5 0.5: products -0.25 + 0.25 - 0.25, squares 1
    expression = np.array([[1, 1, 7], [2, 0, 7], [3, 0, 7], [4, 1, 7]], dtype=np.float32)
    found = morans_i(expression, near)
    assert found.tolist() == pytest.approx([4 / 3 * 1.25 / 5, 4 / 3 * -0.25 / 1, 0])


def test_morans_i_of_known_maps():
    x, y = (square() / 200).T
    noise = np.random.default_rng(3).normal(size=(SIDE**2, 500))
    near = adjacency(square())
    checkerboard, gradient = morans_i(np.stack([(x + y) % 2, x + 2 * y], axis=1), near)
    # N even and odd squares differ by one: the mean is not quite 1/2
    assert checkerboard == pytest.approx(-1, abs=1e-5)
    assert 0.95 < gradient < 1.05
    assert morans_i(noise, near).mean() == pytest.approx(-1 / (SIDE**2 - 1), abs=0.005)


def test_morans_i_equals_scanpy_and_the_plain_formula():
    rng = np.random.default_rng(4)
    spatial = hexagonal(9)[rng.random(81) < 0.7]
    near = adjacency(spatial)
    expression = rng.gamma(2, size=(len(spatial), 300)).astype(np.float32)  # two blocks of genes
    found = morans_i(expression, near)
    np.testing.assert_allclose(found, scanpy_morans_i(sparse.csr_matrix(near), expression.T.astype(float)), atol=1e-12)
    z, w = expression[:, 299].astype(float) - expression[:, 299].mean(dtype=float), near.toarray()
    plain = sum(w[i, j] * z[i] * z[j] for i in range(len(z)) for j in range(len(z)))
    assert found[299] == pytest.approx(len(z) / w.sum() * plain / sum(z * z))


def test_morans_i_is_0_for_constant_genes_and_where_no_spot_is_adjacent():
    constant = np.full((81, 1), 0.1)
    assert (constant - constant.mean()).any()  # dust, which correlates
    assert morans_i(constant, adjacency(square(9))).tolist() == [0]
    alone = adjacency(np.array([[5.0, 5.0]]))
    assert morans_i(np.ones((1, 2)), alone).tolist() == [0, 0]
    assert gaussian_window(np.array([[5.0, 5.0]])).toarray().tolist() == [[1]]


def test_spots_at_one_place_are_refused():
    with pytest.raises(ValueError, match="same place"):
        adjacency(np.zeros((5, 2)))


def test_spatial_metrics_do_not_depend_on_the_unit_or_on_quarter_turns(maps):
    expected = spatial_metrics(*maps, square())
    for spatial in (1e-3 * square(), turned(square(), 90) + 1e4, square()[:, ::-1] * [1, -1]):
        pd.testing.assert_frame_equal(spatial_metrics(*maps, spatial), expected)
    predicted, observed = maps
    near = adjacency(square())
    assert expected["moran_predicted"].tolist() == morans_i(predicted, near).tolist()
    assert expected["moran_observed"].tolist() == morans_i(observed, near).tolist()
    assert expected["ssim"].tolist() == ssim_per_gene(*maps, gaussian_window(square())).tolist()
