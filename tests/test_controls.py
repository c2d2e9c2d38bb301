"""Claims about the controls: they do what they say and never see the slide that they predict."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr

from spotwise.contracts import TEST
from spotwise.metrics import pearson_per_gene
from spotwise.models import REGISTRY, load
from spotwise.models.controls import LibrarySize, RandomRetrieval, TrainMean

CONTROLS = [name for name, entry in REGISTRY.items() if entry.kind == "control"]
TESTED = ["C", "D"]


def truth(fold, sample):
    return fold.expression[fold.rows(TEST, sample=sample)]


@pytest.mark.parametrize("sample", TESTED)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_does_not_see_the_expression_of_the_tested_slides(fold, name, sample):
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    blind = replace(fold, expression=expression)
    predicted = load(name)().predict(fold, sample, seed=0)
    np.testing.assert_array_equal(predicted, load(name)().predict(blind, sample, seed=0))
    assert predicted.shape == truth(fold, sample).shape
    assert predicted.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in CONTROLS if not REGISTRY[name].seeded])
def test_controls_that_run_once_do_not_depend_on_the_seed(fold, name):
    first, second = (load(name)().predict(fold, "C", seed) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("sample", TESTED)
def test_train_mean_is_the_mean_of_the_bank_and_scores_0(fold, sample):
    predicted = TrainMean().predict(fold, sample, seed=0)
    expected = [sum(float(fold.expression[row, gene]) for row in fold.bank) / 55 for gene in range(12)]
    np.testing.assert_allclose(predicted, np.tile(expected, (len(predicted), 1)), rtol=1e-6)
    pcc, is_constant = pearson_per_gene(predicted, truth(fold, sample))
    assert is_constant.all()
    assert not pcc.any()


@pytest.mark.parametrize("k", [1, 7, 55])
def test_random_retrieval_is_the_mean_of_k_different_bank_spots(fold, k):
    predicted = RandomRetrieval(k).predict(fold, "C", seed=3)
    rng = np.random.default_rng(3)
    for row in predicted:
        drawn = rng.choice(fold.bank, k, replace=False)
        assert len(set(drawn)) == k
        assert not set(drawn) & set(fold.rows(TEST))
        np.testing.assert_allclose(row, np.mean([fold.expression[spot] for spot in drawn], axis=0), rtol=1e-5)


def test_random_retrieval_of_one_spot_returns_bank_spots(fold):
    bank = {row.tobytes() for row in fold.expression[fold.bank]}
    predicted = RandomRetrieval(1).predict(fold, "C", seed=0)
    assert {row.tobytes() for row in predicted} <= bank
    assert len({row.tobytes() for row in predicted}) > 10


def test_random_retrieval_follows_its_seed(fold):
    first, again, other = (RandomRetrieval().predict(fold, "C", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_retrieval_of_more_than_the_bank_averages_it_whole(fold):
    predicted = RandomRetrieval(500).predict(fold, "C", seed=0)
    np.testing.assert_allclose(predicted, TrainMean().predict(fold, "C", seed=0), rtol=1e-5)


def test_random_retrieval_says_nothing_about_the_truth(fold):
    pcc = [
        pearson_per_gene(RandomRetrieval(5).predict(fold, "C", seed), truth(fold, "C"))[0].mean() for seed in range(40)
    ]
    assert abs(np.mean(pcc)) < 0.03


def centred_log_depth(fold):
    depth = np.log1p(fold.total_counts.astype(np.float64))
    return depth - np.array([depth[fold.sample == slide].mean() for slide in fold.sample])


@pytest.mark.parametrize("sample", TESTED)
def test_library_size_is_the_line_that_numpy_fits_within_slides(fold, sample):
    predicted = LibrarySize().predict(fold, sample, seed=0)
    depth, bank, rows = centred_log_depth(fold), fold.bank, fold.rows(TEST, sample=sample)
    for gene in range(len(fold.genes)):
        values = fold.expression[:, gene].astype(np.float64)
        within = values - np.array([values[fold.sample == slide].mean() for slide in fold.sample])
        slope, _ = np.polyfit(depth[bank], within[bank], 1)
        np.testing.assert_allclose(predicted[:, gene], values[bank].mean() + slope * depth[rows], rtol=1e-5)


@pytest.mark.parametrize("sample", TESTED)
def test_library_size_predicts_a_gene_that_follows_depth(fold, sample):
    predicted, observed = LibrarySize().predict(fold, sample, seed=0)[:, 0], truth(fold, sample)[:, 0]
    depth = centred_log_depth(fold)[fold.rows(TEST, sample=sample)]
    expected = pearsonr(depth, observed).statistic  # of a line with a positive slope
    assert pearsonr(predicted, observed).statistic == pytest.approx(expected, abs=1e-5)
    assert expected > 0.5


def test_library_size_ignores_how_deep_a_slide_is_as_a_whole(fold):
    deeper = np.where(fold.sample == "C", 100, 1) * (fold.total_counts + 1) - 1
    np.testing.assert_allclose(
        LibrarySize().predict(replace(fold, total_counts=deeper), "C", seed=0),
        LibrarySize().predict(fold, "C", seed=0),
        rtol=1e-4,
    )


def test_library_size_without_any_difference_in_depth_is_the_mean(fold):
    flat = replace(fold, total_counts=np.full_like(fold.total_counts, 1000))
    np.testing.assert_allclose(
        LibrarySize().predict(flat, "C", seed=0), TrainMean().predict(fold, "C", seed=0), rtol=1e-6
    )
