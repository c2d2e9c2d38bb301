"""Claims about the ridge regression on context features."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge as Regression

from spotwise.data.features import EmbeddedSpots
from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.context_ridge import ContextRidge, RidgePath, correlations, principal_axes
from spotwise.models.context_ridge_options import ContextRidgeOptions

ACROSS, SLIDES, GENES = 8, ("A", "B", "C"), 30
N = ACROSS**2 * len(SLIDES)


def world(seed=0, noise=0.5, link=True):
    """Return three slides whose expression follows a pattern that levels and stain show, with strong slide offsets."""
    rng = np.random.default_rng(seed)
    slide = np.repeat(np.array(SLIDES, dtype=object), ACROSS**2)
    x, y = np.meshgrid(np.arange(ACROSS), np.arange(ACROSS))
    spatial = np.tile(np.column_stack([x.ravel(), y.ravel()]) * 100.0, (len(SLIDES), 1))
    latent = rng.normal(size=(N, 3))
    offset = {one: rng.normal(size=40) * 5 for one in SLIDES}
    blocks = {
        "level_112_0": latent @ rng.normal(size=(3, 24)) + noise * rng.normal(size=(N, 24)),
        "pooled_112": latent @ rng.normal(size=(3, 40)) + noise * rng.normal(size=(N, 40)),
        "stain_112": rng.normal(size=(N, 10)),
    }
    blocks["pooled_112"] += np.array([offset[one] for one in slide])
    blocks = {name: block.astype(np.float32) for name, block in blocks.items()}
    driver = latent if link else rng.normal(size=(N, 3))
    expression = driver @ rng.normal(size=(3, GENES)) + noise * rng.normal(size=(N, GENES))
    level = {one: rng.normal(size=GENES) * 3 for one in SLIDES}
    expression += 5 + np.array([level[one] for one in slide])
    counts = rng.uniform(1000, 5000, N)
    return EmbeddedSpots(blocks, slide, slide, spatial, counts), expression.astype(np.float32)


def subset(spots, rows):
    features = {name: block[rows] for name, block in spots.features.items()}
    return EmbeddedSpots(features, *(array[rows] for array in spots[1:5]))


def fit(spots, expression, **options):
    method = ContextRidge(ContextRidgeOptions(**{"components": 16, "largest_rank": 8} | options))
    weights, report = method.fit(spots, expression)
    return method, weights, report


def within(predicted, observed, slide):
    return np.mean([correlations(predicted[slide == one], observed[slide == one]).mean() for one in set(slide)])


def test_it_finds_a_planted_link_on_a_slide_it_has_not_seen():
    spots, expression = world()
    held = spots.slide == "C"
    method, weights, report = fit(subset(spots, ~held), expression[~held])
    predicted = method.predict(weights, subset(spots, held), None)
    assert predicted.dtype == np.float32
    assert within(predicted, expression[held], spots.slide[held]) > 0.7
    assert report["inner_folds"] == 2
    assert sorted(weights) == list(ContextRidge.weight_names)


def test_without_a_link_it_finds_nothing_although_slides_differ():
    """Slide offsets in features and expression are the trap that centring removes."""
    scores = []
    for seed in range(4):
        spots, expression = world(seed, link=False)
        held = spots.slide == "C"
        method, weights, _ = fit(subset(spots, ~held), expression[~held])
        predicted = method.predict(weights, subset(spots, held), None)
        scores.append(within(predicted, expression[held], spots.slide[held]))
    assert abs(np.mean(scores)) < 0.08


def test_slide_offsets_change_no_prediction_beyond_the_mean():
    spots, expression = world()
    held = spots.slide == "C"
    rng = np.random.default_rng(3)
    lifted = expression.copy()
    lifted[spots.slide == "A"] += rng.normal(size=GENES).astype(np.float32) * 4
    brighter = {name: block.copy() for name, block in spots.features.items()}
    for block in brighter.values():
        block[held] = block[held] * 3 + 7
    method, weights, _ = fit(subset(spots, ~held), expression[~held])
    _, of_lifted, _ = fit(subset(spots, ~held), lifted[~held])
    plain = method.predict(weights, subset(spots, held), None)
    other = method.predict(of_lifted, subset(spots._replace(features=brighter), held), None)
    np.testing.assert_allclose(
        plain - weights["mean"], other - of_lifted["mean"], atol=2e-3 * np.abs(plain - weights["mean"]).max()
    )


def test_predictions_have_the_moments_of_the_training():
    """The mean over a slide's spots is that of the training slides, each of equal weight."""
    spots, expression = world()
    rows = np.flatnonzero((spots.slide != "A") | (np.arange(N) % 3 == 0))  # slide A has a third of its spots
    method, weights, _ = fit(subset(spots, rows), expression[rows], rings=0)
    slide = spots.slide[rows]
    means = np.mean([expression[rows][slide == one].mean(axis=0, dtype=float) for one in SLIDES], axis=0)
    np.testing.assert_allclose(weights["mean"], means, rtol=1e-5)
    one = np.flatnonzero(slide == "B")
    predicted = method.predict(weights, subset(subset(spots, rows), one), None)
    np.testing.assert_allclose(predicted.mean(axis=0), means, atol=1e-3)


def test_one_block_without_rings_is_the_ridge_of_sklearn():
    """All components, all genes and one penalty leave a weighted ridge regression on the standardised block."""
    spots, expression = world()
    options = {"components": 24, "largest_rank": 0, "rings": 0, "pooled": False, "stain": False}
    penalty = {"smallest_alpha": 3.0, "largest_alpha": 3.0, "n_alphas": 1}
    method, weights, _ = fit(spots, expression, **options, **penalty)
    block = spots.features["level_112_0"].astype(float)
    centred = expression.astype(float)
    for one in SLIDES:
        rows = spots.slide == one
        block[rows] = (block[rows] - block[rows].mean(axis=0)) / block[rows].std(axis=0)
        centred[rows] -= centred[rows].mean(axis=0)
    block /= np.sqrt((block**2).sum(axis=1).mean())
    weight = spots.total_counts / (spots.total_counts + 2000)
    expected = Regression(3.0, fit_intercept=False).fit(block, centred, sample_weight=weight / weight.mean())
    predicted = method.predict(weights, spots, None) - weights["mean"]
    np.testing.assert_allclose(predicted, expected.predict(block), atol=2e-4)


def test_settings_are_those_of_the_best_correlation_on_slides_left_out():
    """Each choice is fitted anew with another library on the slides that are not left out."""
    spots, expression = world(noise=2.0)
    options = {"largest_rank": 8, "n_alphas": 5, "half_weight_counts": 0}
    method, weights, report = fit(spots, expression, **options)
    inputs = method._inputs(weights, spots)
    centred = expression.astype(float)
    for one in SLIDES:
        centred[spots.slide == one] -= centred[spots.slide == one].mean(axis=0)
    expected = np.zeros((3, 5))
    for one in SLIDES:
        held = spots.slide == one
        axes = np.linalg.svd(centred[~held], full_matrices=False)[2]
        for row, rank in enumerate((2, 4, 8)):
            low = centred[~held] @ axes[:rank].T @ axes[:rank]
            for column, alpha in enumerate(report["alphas"]):
                found = Regression(alpha, fit_intercept=False).fit(inputs[~held], low).predict(inputs[held])
                r = [stats.pearsonr(found[:, gene], centred[held, gene])[0] for gene in range(GENES)]
                expected[row, column] += np.mean(r) / 3
    np.testing.assert_allclose(report["inner_pcc"], expected, atol=1e-3)
    best = np.unravel_index(expected.argmax(), expected.shape)
    assert (report["ranks"][best[0]], report["alphas"][best[1]]) == (report["rank"], report["alpha"])


def test_genes_come_with_their_correlation_on_slides_left_out():
    spots, expression = world()
    expression[:, 5] = np.random.default_rng(0).normal(size=N)  # a gene without a link
    _, weights, _ = fit(spots, expression)
    low, mean, high = (weights[name] for name in ("inner_low", "inner_pcc", "inner_high"))
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert mean[5] < 0.2 < np.delete(mean, 5).min()
    assert low[5] < 0 < high[5]


def test_the_pooled_output_stands_in_for_levels_that_an_encoder_lacks():
    spots, expression = world()
    assert fit(spots, expression)[2]["blocks"] == ["level_112_0", "stain_112"]
    without = {name: block for name, block in spots.features.items() if not name.startswith("level")}
    assert fit(spots._replace(features=without), expression)[2]["blocks"] == ["pooled_112", "stain_112"]
    assert fit(spots, expression, pooled=True)[2]["blocks"] == ["level_112_0", "pooled_112", "stain_112"]


def test_a_single_slide_is_judged_by_blocks():
    spots, expression = world()
    rows = spots.slide == "A"
    assert fit(subset(spots, rows), expression[rows])[2]["inner_folds"] == 4


def test_noisy_spots_count_less():
    """Spots of a hundred counts with random expression hardly matter beside deep ones."""
    spots, expression = world()
    rng = np.random.default_rng(4)
    shallow = rng.random(N) < 0.5
    expression[shallow] += 6 * rng.normal(size=(shallow.sum(), GENES)).astype(np.float32)
    spots = spots._replace(total_counts=np.where(shallow, 100.0, 20_000.0))
    held = spots.slide == "C"
    scores = {}
    for half in (0, 2000):
        method, weights, _ = fit(subset(spots, ~held), expression[~held], half_weight_counts=half)
        predicted = method.predict(weights, subset(spots, held), None)
        scores[half] = within(predicted[~shallow[held]], expression[held][~shallow[held]], spots.slide[held & ~shallow])
    assert scores[2000] > scores[0]


@pytest.mark.parametrize("spots_and_inputs", [(40, 12), (12, 40)])
def test_a_path_equals_each_ridge_of_sklearn(spots_and_inputs):
    rng = np.random.default_rng(0)
    inputs, weight = rng.normal(size=spots_and_inputs), rng.uniform(0.1, 2, spots_and_inputs[0])
    targets = rng.normal(size=(spots_and_inputs[0], 3))
    path = RidgePath(inputs, targets, weight)
    for alpha in (0.1, 1.0, 50.0):
        expected = Regression(alpha, fit_intercept=False).fit(inputs, targets, sample_weight=weight).coef_.T
        np.testing.assert_allclose(path.slopes(alpha), expected, atol=1e-9)
        np.testing.assert_allclose(path.predict(inputs @ path.basis, alpha), inputs @ expected, atol=1e-9)


def test_principal_axes_span_the_leading_singular_vectors():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 50)) * 5 + rng.normal(size=(60, 50))
    exact = np.linalg.svd(values)[2][:4].T
    found = principal_axes(values, 4)
    np.testing.assert_allclose(found @ found.T, exact @ exact.T, atol=1e-6)
    assert principal_axes(values, 80).shape == (50, 50)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"fields": "224-112"}, "fields"),
        ({"fields": "112-112"}, "fields"),
        ({"fields": "8"}, "fields"),
        ({"fields": "112um"}, "fields"),
        ({"levels": False, "pooled": False, "stain": False}, "levels"),
        ({"smallest_alpha": 10, "largest_alpha": 1}, "smallest_alpha"),
        ({"rings": -1}, "rings"),
    ],
)
def test_impossible_options_are_refused_in_one_line(given, field):
    with pytest.raises(InputError, match=field) as refused:
        registry.options("ContextRidge", given)
    assert "\n" not in str(refused.value)
