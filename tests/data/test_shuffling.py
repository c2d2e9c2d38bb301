"""Claims about shuffled training expression: the pairing is broken, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from spotwise.constants import COHORT, PAPER, PATIENT, SLIDE, TEST, VAL
from spotwise.data.centring import centre_slides
from spotwise.data.features import embedded_spots
from spotwise.data.folds import content_hash
from spotwise.data.shuffling import shuffle_training
from spotwise.models.ridge import Ridge
from spotwise.models.ridge_options import RidgeOptions

BOTH = pytest.mark.parametrize("over", [SLIDE, COHORT])


def multiset(expression):
    """Rows in a fixed order."""
    return expression[np.lexsort(expression.T)]


@BOTH
def test_all_rows_of_expression_are_still_there(fold, over):
    found = shuffle_training(fold, over)
    np.testing.assert_array_equal(multiset(found.expression[fold.bank]), multiset(fold.expression[fold.bank]))
    for slide in "AB":
        here = fold.sample == slide
        same = np.array_equal(multiset(found.expression[here]), multiset(fold.expression[here]))
        assert same == (over == SLIDE)


@BOTH
def test_the_pairing_is_broken(fold, over):
    found = shuffle_training(fold, over)
    kept = (found.expression[fold.bank] == fold.expression[fold.bank]).all(axis=1)
    assert kept.mean() < 0.1  # one spot of a permutation on average
    from_b = np.isin(found.expression[fold.sample == "A", 0], fold.expression[fold.sample == "B", 0]).mean()
    assert from_b == 0 if over == SLIDE else 0.2 < from_b < 0.7  # 25 of 55 spots are of B


@BOTH
@pytest.mark.parametrize("protocol", [PAPER, PATIENT])
def test_test_spots_keep_every_bit_and_nothing_but_expression_moves(fold, over, protocol):
    fold = replace(fold, protocol=protocol)
    before = content_hash(fold)
    found = shuffle_training(fold, over)
    rows = fold.rows(TEST)
    assert found.expression[rows].tobytes() == fold.expression[rows].tobytes()
    assert content_hash(fold) == content_hash(replace(found, expression=fold.expression)) == before


@BOTH
def test_the_test_slide_decides_nothing(fold, over):
    expression = fold.expression.copy()
    expression[fold.role == TEST] = np.nan
    found = shuffle_training(replace(fold, expression=expression), over).expression[fold.bank]
    np.testing.assert_array_equal(found, shuffle_training(fold, over).expression[fold.bank])


@BOTH
def test_the_order_is_the_same_again_and_another_in_another_fold(fold, over):
    first = shuffle_training(fold, over).expression
    np.testing.assert_array_equal(shuffle_training(fold, over).expression, first)
    assert not np.array_equal(shuffle_training(replace(fold, fold=1), over).expression, first)


@BOTH
def test_validation_spots_are_shuffled_with_the_others(fold, over):
    val = fold.rows(VAL)
    moved = (shuffle_training(fold, over).expression[val] != fold.expression[val]).any(axis=1)
    assert moved.mean() > 0.5


def learnt_gap(fold, embedded):
    """Difference between a fitted ridge's mean predictions of the two training slides."""
    rows = fold.bank
    spots, sample = embedded_spots(fold, rows, embedded), fold.sample[rows]
    method = Ridge(RidgeOptions(smallest_alpha=1, largest_alpha=1, n_alphas=1))
    weights, _ = method.fit(spots, fold.expression[rows])
    predicted = method.predict(weights, spots, fold.expression[rows])[:, 0]
    return predicted[sample == "B"].mean() - predicted[sample == "A"].mean()


def test_shuffled_on_each_slide_the_difference_between_slides_is_learnt_unless_centred(fold, embedded):
    """Gene 0 and the features follow the depth, in which the slides differ by a lot."""
    true = fold.expression[fold.sample == "B", 0].mean() - fold.expression[fold.sample == "A", 0].mean()
    gaps = {
        over: [learnt_gap(shuffle_training(replace(fold, fold=number), over), embedded) for number in range(8)]
        for over in (SLIDE, COHORT)
    }
    assert min(gaps[SLIDE]) > 0.7 * true > 0
    assert abs(np.mean(gaps[COHORT])) < 0.3 * true
    centred = shuffle_training(centre_slides(fold), SLIDE)
    rows = centred.bank
    means = [centred.expression[rows][centred.sample[rows] == slide].mean(axis=0) for slide in "AB"]
    np.testing.assert_allclose(*means, rtol=1e-5)
