"""Claims about the controls: they do what they say and, but for the two bounds, never see the slide they predict."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from spotwise.constants import PAPER, TEST
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.evaluation.scores import score_prediction
from spotwise.inference.observed_files import write_observed
from spotwise.inference.prediction_files import read_prediction, write_prediction
from spotwise.models.controls import (
    Coordinates,
    LibrarySize,
    NeighbourSlide,
    NoiseCeiling,
    Oracle,
    RandomRetrieval,
    TrainMean,
)
from spotwise.models.registry import REGISTRY, load

CONTROLS = [name for name, entry in REGISTRY.items() if entry.kind == "control"]
BOUNDS = ["Oracle", "NoiseCeiling"]  # made from the truth, and say so
BLIND = [name for name in CONTROLS if name not in BOUNDS]
TESTED = ["C", "D"]
CEILING = np.linspace(0, 1, 12)  # of the 12 genes of the fold


def truth(fold, sample):
    return fold.expression[fold.rows(TEST, sample=sample)]


@pytest.mark.parametrize("sample", TESTED)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_prediction_of_a_control_is_finite_and_has_its_shape(fold, name, sample):
    unmeasured = fold.expression.copy()
    unmeasured[fold.role == TEST, 4] = np.nan
    fold = replace(fold, expression=unmeasured)
    ceiling = np.where(np.arange(12) == 4, np.nan, CEILING)
    predicted = load(name)().predict(fold, sample, 0, ceiling)
    assert predicted.shape == truth(fold, sample).shape
    assert predicted.dtype == np.float32
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize("sample", TESTED)
@pytest.mark.parametrize("name", BLIND)
def test_a_control_does_not_see_the_expression_of_the_tested_slides(fold, name, sample):
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    blind = replace(fold, expression=expression)
    seen, unseen = (load(name)().predict(one, sample, 0, None) for one in (fold, blind))
    np.testing.assert_array_equal(seen, unseen)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bounds_see_the_truth_and_say_that_they_are_bounds(name):
    assert "upper bound" in load(name).__doc__


@pytest.mark.parametrize("name", [name for name in CONTROLS if not REGISTRY[name].seeded])
def test_controls_that_run_once_do_not_depend_on_the_seed(fold, name):
    first, second = (load(name)().predict(fold, "C", seed, CEILING) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("sample", TESTED)
def test_train_mean_is_the_mean_of_the_bank_and_scores_0(fold, sample):
    predicted = TrainMean().predict(fold, sample, 0, None)
    expected = [sum(float(fold.expression[row, gene]) for row in fold.bank) / 55 for gene in range(12)]
    np.testing.assert_allclose(predicted, np.tile(expected, (len(predicted), 1)), rtol=1e-6)
    pcc, is_constant = pearson_per_gene(predicted, truth(fold, sample))
    assert is_constant.all()
    assert not pcc.any()


@pytest.mark.parametrize("k", [1, 7, 55])
def test_random_retrieval_is_the_mean_of_k_different_bank_spots(fold, k):
    predicted = RandomRetrieval(k).predict(fold, "C", 3, None)
    rng = np.random.default_rng(3)
    for row in predicted:
        drawn = rng.choice(fold.bank, k, replace=False)
        assert len(set(drawn)) == k
        assert not set(drawn) & set(fold.rows(TEST))
        np.testing.assert_allclose(row, np.mean([fold.expression[spot] for spot in drawn], axis=0), rtol=1e-5)


def test_random_retrieval_of_one_spot_returns_bank_spots(fold):
    bank = {row.tobytes() for row in fold.expression[fold.bank]}
    predicted = RandomRetrieval(1).predict(fold, "C", 0, None)
    assert {row.tobytes() for row in predicted} <= bank
    assert len({row.tobytes() for row in predicted}) > 10


def test_random_retrieval_follows_its_seed(fold):
    first, again, other = (RandomRetrieval().predict(fold, "C", seed, None) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_retrieval_of_more_than_the_bank_averages_it_whole(fold):
    predicted = RandomRetrieval(500).predict(fold, "C", 0, None)
    np.testing.assert_allclose(predicted, TrainMean().predict(fold, "C", 0, None), rtol=1e-5)


def test_random_retrieval_says_nothing_about_the_truth(fold):
    pcc = [
        pearson_per_gene(RandomRetrieval(5).predict(fold, "C", seed, None), truth(fold, "C"))[0].mean()
        for seed in range(40)
    ]
    assert abs(np.mean(pcc)) < 0.03


def centred_log_depth(fold):
    depth = np.log1p(fold.total_counts.astype(np.float64))
    return depth - np.array([depth[fold.sample == slide].mean() for slide in fold.sample])


@pytest.mark.parametrize("sample", TESTED)
def test_library_size_is_the_line_that_numpy_fits_within_slides(fold, sample):
    predicted = LibrarySize().predict(fold, sample, 0, None)
    depth, bank, rows = centred_log_depth(fold), fold.bank, fold.rows(TEST, sample=sample)
    for gene in range(len(fold.genes)):
        values = fold.expression[:, gene].astype(np.float64)
        within = values - np.array([values[fold.sample == slide].mean() for slide in fold.sample])
        slope, _ = np.polyfit(depth[bank], within[bank], 1)
        np.testing.assert_allclose(predicted[:, gene], values[bank].mean() + slope * depth[rows], rtol=1e-5)


@pytest.mark.parametrize("sample", TESTED)
def test_library_size_predicts_a_gene_that_follows_depth(fold, sample):
    predicted, observed = LibrarySize().predict(fold, sample, 0, None)[:, 0], truth(fold, sample)[:, 0]
    depth = centred_log_depth(fold)[fold.rows(TEST, sample=sample)]
    expected = pearsonr(depth, observed).statistic  # of a line with a positive slope
    assert pearsonr(predicted, observed).statistic == pytest.approx(expected, abs=1e-5)
    assert expected > 0.5


def test_library_size_ignores_how_deep_a_slide_is_as_a_whole(fold):
    deeper = np.where(fold.sample == "C", 100, 1) * (fold.total_counts + 1) - 1
    np.testing.assert_allclose(
        LibrarySize().predict(replace(fold, total_counts=deeper), "C", 0, None),
        LibrarySize().predict(fold, "C", 0, None),
        rtol=1e-4,
    )


def test_library_size_without_any_difference_in_depth_is_the_mean(fold):
    flat = replace(fold, total_counts=np.full_like(fold.total_counts, 1000))
    np.testing.assert_allclose(
        LibrarySize().predict(flat, "C", 0, None), TrainMean().predict(fold, "C", 0, None), rtol=1e-6
    )


# --- where a spot is --------------------------------------------------------------------------------------------------


def ramp(fold, turned=()):
    """Return the fold with a gene that rises along x over each slide, and falls on those ``turned``.

    Slides lie somewhere else and have another resolution.
    """
    expression, spatial = fold.expression.copy(), fold.spatial.copy()
    for number, slide in enumerate(["A", "B", "C", "D"]):
        rows = fold.sample == slide
        x = fold.spatial[rows, 0]
        share = (x - x.min()) / np.ptp(x)
        expression[rows, 1] = 5 * number + (1 - share if slide in turned else share)
        spatial[rows] = fold.spatial[rows] * (number + 1) + 1e5 * number
    return replace(fold, expression=expression, spatial=spatial)


@pytest.mark.parametrize("sample", TESTED)
def test_coordinates_find_a_gradient_that_all_slides_share(fold, sample):
    sloped = ramp(fold)
    pcc, _ = pearson_per_gene(Coordinates().predict(sloped, sample, 0, None), truth(sloped, sample))
    assert pcc[1] == pytest.approx(1, abs=1e-6)


def test_coordinates_take_the_layout_from_the_training_slides(fold):
    turned = ramp(fold, turned=TESTED)
    pcc, _ = pearson_per_gene(Coordinates().predict(turned, "C", 0, None), truth(turned, "C"))
    assert pcc[1] == pytest.approx(-1, abs=1e-6)


def test_coordinates_of_shuffled_spots_say_nothing(fold):
    sloped, rng, pcc = ramp(fold), np.random.default_rng(0), []
    for _ in range(60):
        shuffled = sloped.spatial.copy()
        for slide in TESTED:
            rows = np.flatnonzero(fold.sample == slide)
            shuffled[rows] = shuffled[rng.permutation(rows)]
        predicted = Coordinates().predict(replace(sloped, spatial=shuffled), "C", 0, None)
        pcc.append(pearson_per_gene(predicted, truth(sloped, "C"))[0])
    assert abs(np.mean(pcc)) < 0.05
    assert abs(np.mean(pcc, axis=0)[1]) < 0.1


@pytest.mark.parametrize("sample", TESTED)
def test_coordinates_are_the_polynomial_that_scikit_learn_fits_with_a_level_for_each_slide(fold, sample):
    place = np.empty_like(fold.spatial)
    for slide in "ABCD":
        rows = fold.sample == slide
        low, high = fold.spatial[rows].min(axis=0), fold.spatial[rows].max(axis=0)
        place[rows] = (fold.spatial[rows] - (low + high) / 2) / (high - low)
    terms = PolynomialFeatures(3, include_bias=False).fit_transform(place)
    level = (fold.sample[:, None] == np.array(["A", "B"])).astype(float)
    bank, rows = fold.bank, fold.rows(TEST, sample=sample)
    fitted = LinearRegression(fit_intercept=False).fit(np.hstack([terms, level])[bank], fold.expression[bank])
    shape = terms[rows] @ fitted.coef_[:, : terms.shape[1]].T
    predicted = Coordinates().predict(fold, sample, 0, None)
    np.testing.assert_allclose(predicted - predicted.mean(axis=0), shape - shape.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(predicted.mean(axis=0), fold.expression[bank].mean(axis=0), rtol=1e-5)


def test_coordinates_take_spots_on_one_line(fold):
    line = replace(fold, spatial=fold.spatial * [1, 0])
    assert np.isfinite(Coordinates().predict(line, "C", 0, None)).all()


def same_patient(fold, **patients):
    """Return the fold under the paper's protocol, with patients by slide."""
    patient = np.array([patients.get(slide, slide) for slide in fold.sample], dtype=object)
    return replace(fold, patient=patient, protocol=PAPER)


def nearest_by_hand(fold, sample, slide):
    """Expression of the spots of ``slide`` nearest to those of ``sample``, spot by spot."""

    def places(rows):
        spatial = fold.spatial[rows]
        apart = np.linalg.norm(spatial[:, None] - spatial, axis=2) + np.diag(np.full(len(rows), np.inf))
        return (spatial - spatial.mean(axis=0)) / np.median(apart.min(axis=1))

    there = np.flatnonzero(fold.sample == slide)
    copied = places(there)
    here = places(fold.rows(TEST, sample=sample))
    return fold.expression[[there[np.argmin([np.hypot(*(one - spot)) for one in copied])] for spot in here]]


@pytest.mark.parametrize("sample", TESTED)
def test_neighbour_slide_equals_brute_force(fold, sample):
    both = same_patient(fold, A="P", B="P", C="P", D="P")
    expected = (nearest_by_hand(fold, sample, "A") + nearest_by_hand(fold, sample, "B")) / 2
    np.testing.assert_allclose(NeighbourSlide().predict(both, sample, 0, None), expected, rtol=1e-6)
    assert NeighbourSlide().note(both, sample) == ""


def test_neighbour_slide_never_copies_another_patient(fold):
    one = same_patient(fold, A="P", C="P")
    np.testing.assert_array_equal(NeighbourSlide().predict(one, "C", 0, None), nearest_by_hand(fold, "C", "A"))
    changed = fold.expression.copy()
    changed[fold.sample != "A"] += 100
    np.testing.assert_array_equal(
        NeighbourSlide().predict(replace(one, expression=changed), "C", 0, None),
        NeighbourSlide().predict(one, "C", 0, None),
    )


def test_neighbour_slide_never_copies_a_test_slide(fold):
    together = same_patient(fold, C="P", D="P")
    np.testing.assert_array_equal(
        NeighbourSlide().predict(together, "C", 0, None), TrainMean().predict(together, "C", 0, None)
    )


def test_neighbour_slide_copies_a_section_that_was_moved_and_scaled(fold):
    """D is A in another place and resolution: the copy is the truth."""
    a, d = np.flatnonzero(fold.sample == "A")[:15], np.flatnonzero(fold.sample == "D")
    fold.spatial[d], fold.expression[d] = 3 * fold.spatial[a] + [7e4, -2e4], fold.expression[a]
    kept = np.flatnonzero((fold.sample != "A") | (np.arange(len(fold.sample)) < 15))
    by_spot = [
        field.name for field in fields(fold) if len(np.atleast_1d(getattr(fold, field.name))) == len(fold.sample)
    ]
    moved = replace(fold, **{name: getattr(fold, name)[kept] for name in by_spot})
    moved = same_patient(moved, A="P", D="P")
    np.testing.assert_array_equal(NeighbourSlide().predict(moved, "D", 0, None), truth(moved, "D"))


def test_neighbour_slide_without_a_slide_of_the_patient_is_the_training_mean_and_says_so(fold):
    alone = same_patient(fold)
    np.testing.assert_array_equal(
        NeighbourSlide().predict(alone, "C", 0, None), TrainMean().predict(alone, "C", 0, None)
    )
    assert NeighbourSlide().note(alone, "C") == "no training slide of the patient: training mean"


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "NeighbourSlide"])
def test_the_other_controls_have_nothing_to_note(fold, name):
    assert load(name)().note(fold, "C") == ""


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_the_oracle_scores_1_wherever_the_truth_varies(fold):
    expression = fold.expression.copy()
    expression[fold.sample == "C", 3] = 1.3
    fold = replace(fold, expression=expression)
    pcc, is_constant = pearson_per_gene(Oracle().predict(fold, "C", 0, None), truth(fold, "C"))
    np.testing.assert_array_equal(is_constant, np.arange(12) == 3)
    np.testing.assert_allclose(pcc[~is_constant], 1, atol=1e-12)


@pytest.mark.parametrize("sample", TESTED)
def test_the_simulated_best_predictor_correlates_by_the_ceiling(fold, sample):
    observed = truth(fold, sample).astype(np.float64)
    predicted = NoiseCeiling().predict(fold, sample, 0, CEILING)
    pcc, is_constant = pearson_per_gene(predicted, observed)
    np.testing.assert_allclose(pcc, CEILING, atol=1e-6)
    np.testing.assert_array_equal(is_constant, CEILING == 0)
    rmse = np.sqrt(((predicted - observed) ** 2).mean(axis=0))
    np.testing.assert_allclose(rmse, observed.std(axis=0) * np.sqrt(1 - CEILING**2), atol=1e-5)
    np.testing.assert_allclose(predicted.std(axis=0), CEILING * observed.std(axis=0), atol=1e-5)
    np.testing.assert_allclose(predicted.mean(axis=0), observed.mean(axis=0), rtol=1e-5)


def test_the_simulated_best_predictor_draws_other_noise_with_another_seed(fold):
    first, again, other = (NoiseCeiling().predict(fold, "C", seed, np.full(12, 0.6)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    noise = first - np.full(12, 0.36) * truth(fold, "C")
    between = np.corrcoef(noise.T)[np.triu_indices(12, 1)]
    assert abs(between.mean()) < 0.1  # each gene has noise of its own


def test_the_bounds_fill_what_the_slide_does_not_measure_and_keep_a_constant_truth_constant(fold):
    expression = fold.expression.copy()
    expression[fold.sample == "C", 3], expression[fold.sample == "C", 4] = 0.1, np.nan
    fold = replace(fold, expression=expression)
    ceiling = np.where(np.arange(12) == 4, np.nan, 0.8)
    for predicted in (Oracle().predict(fold, "C", 0, None), NoiseCeiling().predict(fold, "C", 0, ceiling)):
        np.testing.assert_allclose(predicted[:, 3], 0.1, rtol=1e-6)
        assert len(set(predicted[:, 3])) == 1
        np.testing.assert_allclose(predicted[:, 4], fold.expression[fold.bank, 4].mean(), rtol=1e-5)


def test_bounds_pass_through_prediction_files_and_scores(fold, tmp_path):
    expression = fold.expression.copy()
    expression[fold.sample == "C", 4] = np.nan
    fold = replace(fold, expression=expression)
    ceiling = np.where(np.arange(12) == 4, np.nan, np.linspace(0.1, 0.9, 12))
    run = {"predictor": "p", "method": "p", "kind": "control", "k": 0, "k_used": 0, "seed": 0, "note": ""}
    paths = [tmp_path / "oracle.h5ad", tmp_path / "ceiling.h5ad"]
    for control, path in zip((Oracle(), NoiseCeiling()), paths, strict=True):
        write_prediction(path, fold, "C", control.predict(fold, "C", 0, ceiling), run)
    write_observed(tmp_path / "observed.h5ad", fold, "C")
    measured = np.arange(12) != 4
    predictions = (read_prediction(path, tmp_path / "observed.h5ad") for path in paths)
    oracle, best = (score_prediction(prediction)["pcc"].to_numpy() for prediction in predictions)
    np.testing.assert_allclose(oracle[measured], 1, atol=1e-6)
    np.testing.assert_allclose(best[measured], ceiling[measured], atol=2e-4)
    assert np.isnan(oracle[4])
    assert np.isnan(best[4])
