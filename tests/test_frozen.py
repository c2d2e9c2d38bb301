"""Claims about methods on frozen features: the ridge regression, and the join of features to spots."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import Ridge as Regression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spotwise.contracts import TEST
from spotwise.errors import InputError, SetupError
from spotwise.frozen import features_of, fit, predict, pretrained
from spotwise.models.ridge import Ridge, RidgeOptions

N, D, G = 120, 15, 6
OPTIONS = RidgeOptions(n_alphas=7)


@pytest.fixture
def world():
    """Features on very different scales, expression that follows a few of them, three slides with batch effects."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(N, 4))
    features = latent @ rng.normal(size=(4, D)) + 0.5 * rng.normal(size=(N, D))
    features = (features * 10.0 ** rng.uniform(-2, 2, D) + 3).astype(np.float32)
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), N // 3)
    effect = {"A": 0, "B": 0.3, "C": -0.2}
    expression = latent @ rng.normal(size=(4, G)) + 0.5 * rng.normal(size=(N, G))
    expression += np.array([effect[one] for one in slide])[:, None]
    return features, expression.astype(np.float32), slide, rng.uniform(0, 1e4, size=(N, 2))


def test_predictions_equal_sklearns_pipeline_at_the_chosen_penalty(world):
    features, expression, *_ = world
    weights, report = Ridge(OPTIONS).fit(*world)
    pipeline = make_pipeline(StandardScaler(), Regression(report["alpha"]))
    expected = pipeline.fit(features.astype(np.float64), expression).predict(features)
    predicted = Ridge.predict(weights, features)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, expected, atol=2e-5)


def test_the_penalty_is_that_of_the_lowest_error_on_slides_left_out(world):
    features, expression, slide, _ = world
    standard = StandardScaler().fit_transform(features.astype(np.float64))
    alphas = np.logspace(0, 6, 7)
    errors = np.zeros(7)
    for train, held in LeaveOneGroupOut().split(standard, groups=slide):
        for number, alpha in enumerate(alphas):
            # ridge with an intercept, by its normal equations
            x, y = standard[train], expression[train].astype(np.float64)
            gram = (x - x.mean(0)).T @ (x - x.mean(0)) + alpha * np.eye(D)
            slope = np.linalg.solve(gram, (x - x.mean(0)).T @ (y - y.mean(0)))
            missed = expression[held] - (y.mean(0) + (standard[held] - x.mean(0)) @ slope)
            errors[number] += np.mean(missed**2) / 3
    _, report = Ridge(OPTIONS).fit(*world)
    np.testing.assert_allclose(report["alphas"], alphas)
    np.testing.assert_allclose(report["inner_mse"], errors, rtol=1e-6)
    assert report["alpha"] == pytest.approx(alphas[errors.argmin()])


def test_a_planted_signal_is_recovered():
    rng = np.random.default_rng(1)
    features, planted = rng.normal(size=(600, D)), rng.normal(size=(D, G))
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), 200)
    expression = features @ planted + 5 + 0.01 * rng.normal(size=(600, G))
    weights, report = Ridge(RidgeOptions()).fit(features, expression, slide, np.zeros((600, 2)))
    assert report["alpha"] == 1.0
    np.testing.assert_allclose(weights["weights"], planted, atol=0.02)
    np.testing.assert_allclose(weights["bias"], 5, atol=0.02)


def test_noise_is_met_with_the_largest_penalties():
    rng = np.random.default_rng(2)
    slide = np.repeat(np.array(["A", "B", "C"], dtype=object), 100)
    features, expression = rng.normal(size=(300, 40)), rng.normal(size=(300, G))
    weights, report = Ridge(RidgeOptions()).fit(features, expression, slide, np.zeros((300, 2)))
    assert report["alpha"] >= 1000
    assert np.std(Ridge.predict(weights, features), axis=0).max() < 0.05


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.567])
def test_a_feature_constant_in_training_says_nothing_in_the_test(world, value):
    features, *rest = world
    weights, _ = Ridge(OPTIONS).fit(features, *rest)
    with_constant = np.column_stack([features, np.full(N, value, dtype=np.float32)])
    wider, _ = Ridge(OPTIONS).fit(with_constant, *rest)
    unseen = with_constant.copy()
    unseen[:, -1] = np.random.default_rng(3).normal(size=N) * 100
    np.testing.assert_allclose(Ridge.predict(wider, unseen), Ridge.predict(weights, features), atol=1e-5)


def test_the_scale_of_a_feature_does_not_matter(world):
    features, *rest = world
    weights, _ = Ridge(OPTIONS).fit(features, *rest)
    rescaled, _ = Ridge(OPTIONS).fit(features * 256, *rest)
    np.testing.assert_allclose(Ridge.predict(rescaled, features * 256), Ridge.predict(weights, features), atol=1e-5)


def test_the_only_training_slide_is_judged_by_blocks_of_it():
    """A feature that is only the place: neighbours tell it, another block does not, so it must not be trusted."""
    rng = np.random.default_rng(4)
    corner = rng.integers(0, 2, size=(400, 2))
    spatial = 1e4 * corner + rng.uniform(0, 3000, size=(400, 2))
    region = 2 * corner[:, 0] + corner[:, 1]
    features = np.eye(4)[region] + 0.01 * rng.normal(size=(400, 4))
    expression = rng.normal(size=(4, G))[region] + 0.01 * rng.normal(size=(400, G))
    one = np.full(400, "A", dtype=object)
    by_blocks = Ridge(RidgeOptions()).fit(features, expression, one, spatial)[1]
    by_chance = Ridge(RidgeOptions()).fit(features, expression, rng.integers(0, 4, 400).astype(str), spatial)[1]
    assert by_chance["alpha"] == 1.0
    assert min(by_chance["inner_mse"]) < 0.01
    assert min(by_blocks["inner_mse"]) > 0.3
    assert Ridge(RidgeOptions()).fit(features, expression, one, spatial)[1] == by_blocks


# --- joined to a fold -------------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(fold, tmp_path):
    """Embedding files whose features follow the expression, one row per patch, in the patches' order."""
    rng = np.random.default_rng(5)
    link = rng.normal(size=(len(fold.genes), 8))
    files = {}
    for slide in ("A", "B", "C", "D"):
        rows = np.flatnonzero(fold.sample == slide)
        embedding = rng.normal(size=(fold.patch[rows].max() + 3, 8))
        embedding[fold.patch[rows]] = fold.expression[rows] @ link + 0.1 * rng.normal(size=(len(rows), 8))
        files[slide] = tmp_path / f"{slide}-embedded.h5"
        with h5py.File(files[slide], "w") as file:
            file["embedding"] = embedding.astype(np.float32)
            file.attrs["pretrained"] = True
    return files


def test_features_are_those_of_each_spots_patch(fold, embedded):
    rows = np.random.default_rng(0).permutation(len(fold.barcode))
    joined = features_of(fold, rows, embedded)
    for at, row in enumerate(rows):
        with h5py.File(embedded[fold.sample[row]]) as file:
            np.testing.assert_array_equal(joined[at], file["embedding"][fold.patch[row]])


def run(fold, embedded, folder):
    from spotwise.folds import write_fold

    folder.mkdir()
    write_fold(folder / "fold.h5", fold)
    trained = {slide: embedded[slide] for slide in ("A", "B")}  # none of a tested slide
    weights, summary = folder / "weights.safetensors", folder / "summary.json"
    fit(folder / "fold.h5", trained, "Ridge", {"n_alphas": 5}, 1, weights, summary)
    return json.loads(summary.read_text())


def test_a_fitted_method_predicts_each_tested_slide_in_the_folds_order(fold, embedded, tmp_path):
    summary = run(fold, embedded, tmp_path / "run")
    bank = fold.bank
    fitted, report = Ridge(RidgeOptions(n_alphas=5)).fit(
        features_of(fold, bank, embedded), fold.expression[bank], fold.sample[bank], fold.spatial[bank]
    )
    assert summary["alpha"] == report["alpha"]
    assert (summary["spots"], summary["genes"]) == (len(bank), len(fold.genes))
    for sample in ("C", "D"):
        predicted = predict(fold, sample, embedded[sample], "Ridge", tmp_path / "run/weights.safetensors", summary)
        rows = fold.rows(TEST, sample=sample)
        np.testing.assert_allclose(predicted, Ridge.predict(fitted, features_of(fold, rows, embedded)), rtol=1e-6)


def test_nothing_of_a_tested_slide_decides_the_fit(fold, embedded, tmp_path):
    run(fold, embedded, tmp_path / "run")
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    run(replace(fold, expression=expression), embedded, tmp_path / "blind")
    seen, blind = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "blind"))
    for name in ("weights", "bias"):
        np.testing.assert_array_equal(seen[name], blind[name])


def without_weights(path):
    with h5py.File(path, "a") as file:
        file.attrs["pretrained"] = False


def test_features_say_whether_their_encoder_was_pretrained(embedded):
    assert pretrained({"A": embedded["A"], "B": embedded["B"]}) is True
    without_weights(embedded["A"])
    assert pretrained({"A": embedded["A"]}) is False


def test_features_of_different_encoder_weights_are_not_mixed(fold, embedded, tmp_path):
    summary = run(fold, embedded, tmp_path / "run")
    without_weights(embedded["C"])
    with pytest.raises(SetupError, match="other encoder weights than the training slides"):
        predict(fold, "C", embedded["C"], "Ridge", tmp_path / "run/weights.safetensors", summary)
    without_weights(embedded["B"])
    with pytest.raises(SetupError, match=r"B-embedded\.h5: embedded without pretrained weights"):
        run(fold, embedded, tmp_path / "mixed")


@pytest.mark.parametrize("options", [{"n_alphas": 0}, {"n_blocks": 1}, {"smallest_alpha": 0.0}, {"largest_alpha": 0.1}])
def test_penalties_that_cannot_be_searched_are_refused(options):
    with pytest.raises(InputError, match="Ridge"):
        RidgeOptions(**options)
