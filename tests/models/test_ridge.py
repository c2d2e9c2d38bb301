"""Claims about the ridge regression on frozen features."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as Regression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spotwise.data.features import EmbeddedSpots
from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.inner_folds import inner_groups
from spotwise.models.ridge import Ridge, RidgeOptions

N, D, G = 120, 15, 6
OPTIONS = RidgeOptions(n_alphas=7)


@pytest.fixture
def world():
    """Return features on very different scales, expression that depends on a few of them, and three slides."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(N, 4))
    features = latent @ rng.normal(size=(4, D)) + 0.5 * rng.normal(size=(N, D))
    features = (features * 10.0 ** rng.uniform(-2, 2, D) + 3).astype(np.float32)
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), N // 3)
    effect = {"A": 0, "B": 0.3, "C": -0.2}
    expression = latent @ rng.normal(size=(4, G)) + 0.5 * rng.normal(size=(N, G))
    expression += np.array([effect[one] for one in slide])[:, None]
    return features, expression.astype(np.float32), slide, rng.uniform(0, 1e4, size=(N, 2))


def fitted(options, features, expression, slide, spatial):
    return Ridge(options).fit(EmbeddedSpots(features, slide, slide, spatial, np.ones(len(features))), expression)


def predicted(options, weights, features):
    """Predict from features alone, without the training spots' expression."""
    return Ridge(options).predict(weights, EmbeddedSpots(features, None, None, None, None), None)


@pytest.mark.parametrize("components", [0, 3, 4, 256])
def test_a_fit_equals_sklearns_search_over_the_whole_pipeline(world, components):
    """Scaler and components fitted inside each inner training part: the search refits all three steps."""
    features, expression, slide, _ = world
    search = GridSearchCV(
        make_pipeline(StandardScaler(), PCA(components if 0 < components < D else D, svd_solver="full"), Regression()),
        {"ridge__alpha": np.logspace(0, 6, 7)},
        cv=LeaveOneGroupOut(),
        scoring="neg_mean_squared_error",
    ).fit(features.astype(np.float64), expression, groups=slide)
    options = OPTIONS.model_copy(update={"components": components})
    weights, report = fitted(options, *world)
    np.testing.assert_allclose(report["inner_mse"], -search.cv_results_["mean_test_score"], rtol=1e-6)
    assert report["alpha"] == pytest.approx(search.best_params_["ridge__alpha"])
    assert report["components"] == (components if 0 < components < D else D)
    assert report["ridge_protocol"] == "grouped"
    assert {name: value.shape for name, value in weights.items()} == {"weights": (D, G), "bias": (G,)}
    assert predicted(options, weights, features).dtype == np.float32
    np.testing.assert_allclose(predicted(options, weights, features), search.predict(features), atol=5e-5)


def test_there_are_never_more_components_than_spots(world):
    few = np.arange(0, N, 13)
    options = RidgeOptions(components=256)
    weights, report = fitted(options, *(array[few] for array in world))
    assert report["components"] == len(few) < D
    pipeline = make_pipeline(StandardScaler(), Regression(report["alpha"]))
    expected = pipeline.fit(world[0][few].astype(np.float64), world[1][few]).predict(world[0])
    np.testing.assert_allclose(predicted(options, weights, world[0]), expected, atol=5e-5)


def test_the_hest_protocol_equals_the_benchmarks_steps(world):
    features, expression, *_ = world
    options = RidgeOptions(protocol="hest", components=4)
    weights, report = fitted(options, *world)
    assert report["alpha"] == 100 / 12800
    assert report["ridge_protocol"] == "hest"
    assert "inner_mse" not in report
    standard = (features - features.mean(axis=0, dtype=np.float64)) / features.std(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(standard, full_matrices=False)
    scores = standard @ axes[:4].T
    slopes = np.linalg.solve(scores.T @ scores + np.eye(4) * 100 / 12800, scores.T @ expression)
    benchmark = Regression(100 / 12800, solver="lsqr", fit_intercept=False, max_iter=1000).fit(scores, expression)
    found = predicted(options, weights, features)
    np.testing.assert_allclose(found, benchmark.predict(scores), atol=5e-5)
    np.testing.assert_allclose(found, scores @ slopes, atol=2e-3)  # LSQR stops at a tolerance of 1e-4


def test_predictions_of_the_hest_protocol_lack_the_mean_and_correlate_nonetheless(world):
    features, expression, slide, spatial = world
    raised = expression + np.float32(100)
    hest = predicted(
        RidgeOptions(), fitted(RidgeOptions(protocol="hest"), features, raised, slide, spatial)[0], features
    )
    honest = predicted(RidgeOptions(), fitted(RidgeOptions(), features, raised, slide, spatial)[0], features)
    np.testing.assert_allclose(hest.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(honest.mean(axis=0), raised.mean(axis=0), rtol=1e-5)
    assert min(np.corrcoef(hest[:, gene], raised[:, gene])[0, 1] for gene in range(G)) > 0.5


def test_the_penalty_is_that_of_the_lowest_error_on_slides_left_out(world):
    features, expression, slide, _ = world
    alphas = np.logspace(0, 6, 7)
    errors = np.zeros(7)
    for one in "ABC":
        held = slide == one
        mean, spread = features[~held].mean(axis=0, dtype=np.float64), features[~held].std(axis=0, dtype=np.float64)
        x, unseen = (features[~held] - mean) / spread, (features[held] - mean) / spread
        y = expression[~held] - expression[~held].mean(axis=0, dtype=np.float64)
        for number, alpha in enumerate(alphas):
            slope = np.linalg.solve(x.T @ x + alpha * np.eye(D), x.T @ y)  # the normal equations
            missed = expression[held] - (expression[~held].mean(axis=0, dtype=np.float64) + unseen @ slope)
            errors[number] += np.mean(missed**2) / 3
    _, report = fitted(OPTIONS, *world)
    np.testing.assert_allclose(report["alphas"], alphas)
    np.testing.assert_allclose(report["inner_mse"], errors, rtol=1e-6)
    assert report["alpha"] == pytest.approx(alphas[errors.argmin()])


def test_a_planted_signal_is_recovered():
    rng = np.random.default_rng(1)
    features, planted = rng.normal(size=(600, D)), rng.normal(size=(D, G))
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), 200)
    expression = features @ planted + 5 + 0.01 * rng.normal(size=(600, G))
    weights, report = fitted(RidgeOptions(), features, expression, slide, np.zeros((600, 2)))
    assert report["alpha"] == 1.0
    np.testing.assert_allclose(weights["weights"], planted, atol=0.02)
    np.testing.assert_allclose(weights["bias"], 5, atol=0.02)


def test_noise_is_met_with_the_largest_penalties():
    rng = np.random.default_rng(2)
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), 100)
    features, expression = rng.normal(size=(300, 40)), rng.normal(size=(300, G))
    weights, report = fitted(RidgeOptions(), features, expression, slide, np.zeros((300, 2)))
    assert report["alpha"] >= 1000
    assert np.std(predicted(RidgeOptions(), weights, features), axis=0).max() < 0.05


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567])
def test_a_feature_constant_in_training_says_nothing_in_the_test(world, value):
    features, *rest = world
    weights, _ = fitted(OPTIONS, features, *rest)
    with_constant = np.column_stack([features, np.full(N, value, dtype=np.float32)])
    wider, _ = fitted(OPTIONS, with_constant, *rest)
    unseen = with_constant.copy()
    unseen[:, -1] = np.random.default_rng(3).normal(size=N) * 100
    np.testing.assert_allclose(predicted(OPTIONS, wider, unseen), predicted(OPTIONS, weights, features), atol=1e-5)


def test_the_scale_of_a_feature_does_not_matter(world):
    features, *rest = world
    weights, _ = fitted(OPTIONS, features, *rest)
    rescaled, _ = fitted(OPTIONS, features * 256, *rest)
    found, expected = predicted(OPTIONS, rescaled, features * 256), predicted(OPTIONS, weights, features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_only_training_slide_is_judged_by_blocks_of_it():
    """A feature of the position alone predicts adjacent spots, but not those of another block."""
    rng = np.random.default_rng(4)
    corner = rng.integers(0, 2, size=(400, 2))
    spatial = 1e4 * corner + rng.uniform(0, 3000, size=(400, 2))
    region = 2 * corner[:, 0] + corner[:, 1]
    features = np.eye(4)[region] + 0.01 * rng.normal(size=(400, 4))
    expression = rng.normal(size=(4, G))[region] + 0.01 * rng.normal(size=(400, G))
    one = np.full(400, "A", dtype=object)
    by_blocks = fitted(RidgeOptions(), features, expression, one, spatial)[1]
    by_chance = fitted(RidgeOptions(), features, expression, rng.integers(0, 4, 400).astype(str), spatial)[1]
    assert by_chance["alpha"] == 1.0
    assert min(by_chance["inner_mse"]) < 0.01
    assert min(by_blocks["inner_mse"]) > 0.3
    assert fitted(RidgeOptions(), features, expression, one, spatial)[1] == by_blocks


def test_penalties_and_blocks_are_those_of_the_options(world):
    _features, _expression, slide, spatial = world
    options = RidgeOptions(smallest_alpha=0.1, largest_alpha=1000.0, n_alphas=5, n_blocks=3)
    assert fitted(options, *world)[1]["alphas"] == pytest.approx([0.1, 1, 10, 100, 1000])
    blocks = inner_groups(np.full(N, "A"), spatial, options.n_blocks)
    assert set(blocks) == {0, 1, 2}
    assert inner_groups(slide, spatial, options.n_blocks) is slide


@pytest.mark.parametrize(
    "given",
    [
        {"n_alphas": 0},
        {"n_blocks": 1},
        {"smallest_alpha": 0.0},
        {"largest_alpha": 0.1},
        {"components": -1},
        {"protocol": "HEST"},
    ],
)
def test_impossible_options_are_refused(given):
    with pytest.raises(InputError, match=r"^Ridge: "):
        registry.options("Ridge", given)
