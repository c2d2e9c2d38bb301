"""Claims about maps, their autocorrelation, and what a prediction keeps of a slide as a whole."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scanpy.metrics import morans_i as scanpy_morans_i
from scipy import sparse

from spotwise.evaluation import measures
from spotwise.evaluation.metrics import score_prediction

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


# --- SSIM -------------------------------------------------------------------------------------------------------------


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
    found = measures.ssim_map(*maps, measures.gaussian_window(square()))
    for gene in range(2):
        image = found[:, gene].reshape(SIDE, SIDE)
        expected = ssim_of_images(*(values[:, gene].reshape(SIDE, SIDE) for values in maps))
        np.testing.assert_allclose(image[5:-5, 5:-5], expected, atol=1e-12)
        assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(measures.ssim_per_gene(*maps, measures.gaussian_window(square())), found.mean(axis=0))


def test_the_window_of_an_array_with_holes_is_shared_by_the_spots_that_are_there():
    spatial = hexagonal()[np.random.default_rng(1).random(SIDE * SIDE) < 0.6]
    window = measures.gaussian_window(spatial).toarray()
    np.testing.assert_allclose(window.sum(axis=1), 1)
    for spot in (0, 57, len(spatial) - 1):
        offset = np.abs(spatial - spatial[spot]) / 100
        weights = np.where(offset.max(axis=1) < 5.5, np.exp(-(offset**2).sum(axis=1) / (2 * 1.5**2)), 0)
        np.testing.assert_allclose(window[spot], weights / weights.sum(), atol=1e-15)


def test_a_prediction_equal_to_the_truth_has_ssim_1_and_a_constant_one_about_0(maps):
    _, observed = maps
    window = measures.gaussian_window(square())
    assert measures.ssim_per_gene(observed, observed, window).tolist() == [1, 1]
    constant = np.tile(observed.mean(axis=0), (len(observed), 1))
    np.testing.assert_allclose(measures.ssim_per_gene(constant, observed, window), 0, atol=0.1)
    assert (measures.ssim_per_gene(4 - observed, observed, window) < -0.5).all()


def test_ssim_sees_shrinkage_and_a_wrong_level_that_correlation_does_not(maps):
    _, observed = maps
    window = measures.gaussian_window(square())
    mean = observed.mean(axis=0)
    shrunk = [measures.ssim_per_gene(mean + f * (observed - mean), observed, window)[0] for f in (1, 0.7, 0.4, 0.1)]
    assert shrunk[0] == pytest.approx(1)
    assert (np.diff(shrunk) < -0.04).all()
    assert measures.ssim_per_gene(observed + 2, observed, window)[0] < 0.9


def test_ssim_of_a_constant_truth_is_0_whatever_is_predicted(maps):
    predicted, observed = maps
    observed[:, 0] = 0.1
    for guess in (predicted, observed):
        ssim = measures.ssim_per_gene(guess, observed, measures.gaussian_window(square()))
        assert ssim[0] == 0
        assert ssim[1] > 0.1


def test_ssim_of_many_genes_is_that_of_each_alone():
    rng = np.random.default_rng(9)
    spatial = square(5)
    predicted, observed = rng.gamma(2, size=(2, 25, 300)).astype(np.float32)  # two blocks of genes
    observed[:, [3, 280]] = 1
    window = measures.gaussian_window(spatial)
    alone = [measures.ssim_per_gene(predicted[:, [g]], observed[:, [g]], window)[0] for g in range(300)]
    np.testing.assert_allclose(measures.ssim_per_gene(predicted, observed, window), alone, atol=1e-12)


# --- Moran's I --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("array", "inside"), [(square, 4), (hexagonal, 6)])
@pytest.mark.parametrize("degrees", [0, 3, 45])
def test_adjacent_spots_are_those_one_pitch_away_though_not_exactly_in_place(array, inside, degrees):
    spatial = array()
    pitch = np.linalg.norm(spatial[1] - spatial[0])
    near = measures.adjacency(
        turned(spatial + np.random.default_rng(2).uniform(-0.06, 0.06, spatial.shape) * pitch, degrees)
    )
    expected = np.linalg.norm(spatial[:, None] - spatial[None], axis=2).round() == round(pitch)
    np.testing.assert_array_equal(near.toarray(), expected)
    assert near.sum(axis=1).reshape(SIDE, SIDE)[1:-1, 1:-1].tolist() == [[inside] * (SIDE - 2)] * (SIDE - 2)


def test_morans_i_of_four_spots_in_a_row_by_hand():
    near = measures.adjacency(np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]]))
    # deviations -1.5 -0.5 0.5 1.5: products of neighbours 0.75 - 0.25 + 0.75, squares 5; 4 spots, 3 pairs
    # 1 0 0 1: deviations 0.5 -0.5 -0.5 0.5: products -0.25 + 0.25 - 0.25, squares 1
    expression = np.array([[1, 1, 7], [2, 0, 7], [3, 0, 7], [4, 1, 7]], dtype=np.float32)
    found = measures.morans_i(expression, near)
    assert found.tolist() == pytest.approx([4 / 3 * 1.25 / 5, 4 / 3 * -0.25 / 1, 0])


def test_morans_i_of_known_maps():
    x, y = (square() / 200).T
    noise = np.random.default_rng(3).normal(size=(SIDE**2, 500))
    near = measures.adjacency(square())
    checkerboard, gradient = measures.morans_i(np.stack([(x + y) % 2, x + 2 * y], axis=1), near)
    # N even and odd squares differ by one: the mean is not quite 1/2
    assert checkerboard == pytest.approx(-1, abs=1e-5)
    assert 0.95 < gradient < 1.05
    assert measures.morans_i(noise, near).mean() == pytest.approx(-1 / (SIDE**2 - 1), abs=0.005)


def test_morans_i_equals_scanpy_and_the_plain_formula():
    rng = np.random.default_rng(4)
    spatial = hexagonal(9)[rng.random(81) < 0.7]
    near = measures.adjacency(spatial)
    expression = rng.gamma(2, size=(len(spatial), 300)).astype(np.float32)  # two blocks of genes
    found = measures.morans_i(expression, near)
    np.testing.assert_allclose(found, scanpy_morans_i(sparse.csr_matrix(near), expression.T.astype(float)), atol=1e-12)
    z, w = expression[:, 299].astype(float) - expression[:, 299].mean(dtype=float), near.toarray()
    plain = sum(w[i, j] * z[i] * z[j] for i in range(len(z)) for j in range(len(z)))
    assert found[299] == pytest.approx(len(z) / w.sum() * plain / sum(z * z))


def test_morans_i_is_0_for_constant_genes_and_where_no_spot_is_adjacent():
    constant = np.full((81, 1), 0.1)
    assert (constant - constant.mean()).any()  # dust, which correlates
    assert measures.morans_i(constant, measures.adjacency(square(9))).tolist() == [0]
    alone = measures.adjacency(np.array([[5.0, 5.0]]))
    assert measures.morans_i(np.ones((1, 2)), alone).tolist() == [0, 0]
    assert measures.gaussian_window(np.array([[5.0, 5.0]])).toarray().tolist() == [[1]]


def test_spots_at_one_place_are_refused():
    with pytest.raises(ValueError, match="same place"):
        measures.adjacency(np.zeros((5, 2)))


def test_spatial_measures_do_not_depend_on_the_unit_or_on_quarter_turns(maps):
    expected = measures.spatial_measures(*maps, square())
    for spatial in (1e-3 * square(), turned(square(), 90) + 1e4, square()[:, ::-1] * [1, -1]):
        pd.testing.assert_frame_equal(measures.spatial_measures(*maps, spatial), expected)
    predicted, observed = maps
    near = measures.adjacency(square())
    assert expected["moran_predicted"].tolist() == measures.morans_i(predicted, near).tolist()
    assert expected["moran_observed"].tolist() == measures.morans_i(observed, near).tolist()
    assert expected["ssim"].tolist() == measures.ssim_per_gene(*maps, measures.gaussian_window(square())).tolist()


# --- Whole slides -----------------------------------------------------------------------------------------------------


def prediction(predicted, observed, reference=None, measured=True):
    """A prediction of the square array; genes are ranked by the truth of the slide, or by ``reference``."""
    n, g = predicted.shape
    reference = observed if reference is None else reference
    run = {"cohort": "c", "protocol": "paper", "predictor": "P", "method": "M", "kind": "method", "k": 0, "k_used": 0}
    return ad.AnnData(
        predicted.astype(np.float32),
        obs=pd.DataFrame(index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(
            {
                "is_marker": False,
                "is_measured": measured,
                "reference_mean": reference.mean(axis=0),
                "reference_var": reference.var(axis=0),
            },
            index=[f"G{i:03d}" for i in range(g)],
        ),
        layers={"observed": observed.astype(np.float32)},
        obsm={"spatial": square(round(np.sqrt(n)))},
        uns={"spotwise": {**run, "fold": 3, "seed": 1, "sample": "S", "note": ""}},
    )


def slide_scores(content, top):
    return measures.slide_scores(content, score_prediction(content), top)


@pytest.fixture
def expression():
    """100 spots, 60 genes that follow 3 patterns, with very different means and variances."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 60)) + 0.5 * rng.normal(size=(100, 60))
    return rng.uniform(0.5, 5, 60) + values * rng.uniform(0.1, 1, 60)


def test_the_truth_keeps_everything(expression):
    row = slide_scores(prediction(expression, expression), 20)
    assert tuple(row) == measures.SLIDE_SCORE_COLUMNS
    assert row.pop("hvg_chance") == pytest.approx(20 / 60)
    expected = {"correlation_HEG": 1, "correlation_HVG": 1, "hvg_recovery": 1}
    expected |= {"mean_slope": 1, "mean_intercept": 0, "var_slope": 1, "var_intercept": 0}
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    run = {"cohort": "c", "protocol": "paper", "predictor": "P", "method": "M", "kind": "method"}
    assert {name: row[name] for name in row if name not in expected} == {**run, "fold": 3, "seed": 1, "sample": "S"}


def test_a_constant_prediction_keeps_nothing_but_the_means(expression):
    mean = np.tile(expression.mean(axis=0), (100, 1))
    row = slide_scores(prediction(mean, expression), 20)
    assert [row[name] for name in ("correlation_HEG", "correlation_HVG", "hvg_recovery", "var_slope")] == [0, 0, 0, 0]
    assert row["mean_slope"] == pytest.approx(1)


def test_correlations_are_those_of_the_ranked_genes_of_prediction_and_truth(expression):
    rng = np.random.default_rng(6)
    predicted = expression + rng.normal(size=expression.shape)
    reference = expression[:, rng.permutation(60)]  # ranks from elsewhere, as under the patient protocol
    row = slide_scores(prediction(predicted, expression, reference), 15)
    for kind, statistic in (("HEG", np.mean), ("HVG", np.var)):
        genes = np.argsort(-statistic(reference, axis=0))[:15]
        upper = np.triu_indices(15, 1)
        triangles = [np.corrcoef(values[:, genes].T)[upper] for values in (predicted, expression)]
        assert row[f"correlation_{kind}"] == pytest.approx(np.corrcoef(*triangles)[0, 1], abs=1e-5)


def test_correlations_of_shuffled_genes_are_not_alike(expression):
    rng = np.random.default_rng(7)
    truth = measures.gene_gene_correlation(expression)
    shuffled = [measures.gene_gene_correlation(expression[:, rng.permutation(60)]) for _ in range(20)]
    assert np.mean([measures.similarity(one, truth) for one in shuffled]) == pytest.approx(0, abs=0.05)


def test_similarity_is_undefined_only_where_the_truth_is():
    truth = np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    assert np.isnan(measures.similarity(np.ones((3, 3)), truth))  # one pair
    assert np.isnan(measures.similarity(np.ones((3, 3)), np.ones((3, 3))))  # all pairs level
    varied = np.array([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
    assert measures.similarity(np.full((3, 3), np.nan), varied) == 0
    assert measures.similarity(np.full((3, 3), 0.7), varied) == 0


def test_calibration_is_the_line_of_predicted_over_observed(expression):
    measured = np.arange(60) < 50
    observed = np.where(measured, expression, np.nan)
    mean = expression.mean(axis=0)
    row = slide_scores(prediction(0.3 + 0.5 * mean + 0.2 * (expression - mean), observed, expression, measured), 20)
    assert row["mean_slope"] == pytest.approx(0.5, abs=1e-5)
    assert row["mean_intercept"] == pytest.approx(0.3, abs=1e-5)
    assert row["var_slope"] == pytest.approx(0.04, abs=1e-5)
    assert row["var_intercept"] == pytest.approx(0, abs=1e-5)
    assert row["hvg_chance"] == pytest.approx(20 / 50)
    x, y = np.array([0.0, 1, 2, 3]), np.array([1.0, 0, 3, 2])
    # deviations of x -1.5 -0.5 0.5 1.5 with those of y -0.5 -1.5 1.5 0.5: 3 / 5
    assert measures.least_squares(x, y) == pytest.approx((0.6, 0.6))
    assert np.isnan(measures.least_squares(np.ones(3), np.arange(3.0))).all()


def test_recovered_genes_are_counted_by_hand():
    genes = pd.DataFrame(
        {"gene": list("FEDCBA"), "observed_var": [6, 5, 4, 3, 2, 1.0], "predicted_var": [0.1, 0, 0, 0.3, 0.2, 0.2]}
    )
    # truth F E D; own C, then A and B level with each other, then F
    assert measures.hvg_recovery(genes, 3) == 0
    # truth F E D C; own C A B F
    assert measures.hvg_recovery(genes, 4) == 0.5
    # truth F E D C B; own C A B F and no more: E and D do not vary
    assert measures.hvg_recovery(genes, 5) == pytest.approx(3 / 5)
    # truth F; own C
    assert measures.hvg_recovery(genes, 1) == 0
    few = genes.assign(observed_var=[1, 0, 0, 0, 0, 2])
    # truth A F; own C and A, which comes before B
    assert measures.hvg_recovery(few, 2) == 0.5
    # truth A F and no more; own C A B F
    assert measures.hvg_recovery(few, 4) == 1
    assert np.isnan(measures.hvg_recovery(genes.assign(observed_var=0.0), 3))


def test_recovery_looks_at_the_slides_own_truth_not_at_the_ranks_of_the_protocol(expression):
    content = prediction(expression, expression, reference=expression[:, ::-1])
    assert slide_scores(content, 20)["hvg_recovery"] == 1


def test_random_variances_recover_what_chance_would():
    rng = np.random.default_rng(8)
    genes = pd.DataFrame({"gene": [f"G{i}" for i in range(400)], "observed_var": rng.random(400)})
    found = [measures.hvg_recovery(genes.assign(predicted_var=rng.random(400)), 50) for _ in range(200)]
    assert np.mean(found) == pytest.approx(50 / 400, abs=0.01)


def test_constant_genes_leave_undefined_rows_and_the_others_those_of_numpy(expression):
    values = expression[:, :7].copy()
    values[:, 3] = 0.1
    matrix, others = measures.gene_gene_correlation(values), np.delete(np.arange(7), 3)
    assert np.isnan(matrix[3]).all()
    assert np.isnan(matrix[:, 3]).all()
    np.testing.assert_allclose(matrix[np.ix_(others, others)], np.corrcoef(values[:, others].T), atol=1e-12)


def test_a_prediction_that_is_constant_in_part_is_less_like_the_truth(expression):
    truth = measures.gene_gene_correlation(expression)
    assert measures.similarity(measures.gene_gene_correlation(3 * expression + 7), truth) == pytest.approx(1)
    partly = truth.copy()
    partly[:25] = partly[:, :25] = np.nan
    assert 0 < measures.similarity(partly, truth) < 1
