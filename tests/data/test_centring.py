"""Claims about centring on slides: what slides differ in goes, everything else and every test spot stays."""

from dataclasses import replace

import numpy as np
import pytest

from spotwise.constants import PAPER, PATIENT, TEST
from spotwise.data.centring import centre_slides, centred, standardised
from spotwise.data.features import embedded_spots
from spotwise.data.folds import content_hash, read_fold, write_fold
from spotwise.models.ridge import Ridge
from spotwise.models.ridge_options import RidgeOptions

PROTOCOLS = pytest.mark.parametrize("protocol", [PAPER, PATIENT])


def with_offsets(fold, offsets):
    """Add to each slide's expression a constant per gene, by slide."""
    expression = fold.expression.copy()
    for slide, offset in offsets.items():
        expression[fold.sample == slide] += offset
    return replace(fold, expression=expression)


def test_two_slides_of_one_gene_are_centred_as_by_hand(fold):
    few = np.concatenate([np.flatnonzero(fold.sample == slide)[:n] for slide, n in (("A", 1), ("B", 3), ("C", 1))])
    by_spot = ("sample", "patient", "barcode", "role", "patch", "spatial", "array", "total_counts")
    small = replace(fold, **{name: getattr(fold, name)[few] for name in by_spot})
    small = replace(small, expression=np.array([[8], [0], [1], [2], [7]], dtype=np.float32))
    # Means 8 of A and 1 of B, 4.5 of both slides, whatever their spots
    np.testing.assert_array_equal(centre_slides(small).expression.ravel(), [4.5, 3.5, 4.5, 5.5, 7])


def test_all_training_slides_have_the_same_mean_and_spots_their_distance_from_it(fold):
    found = centre_slides(fold)
    means = {slide: found.expression[fold.sample == slide].mean(axis=0, dtype=float) for slide in "AB"}
    expected = np.mean([fold.expression[fold.sample == slide].mean(axis=0, dtype=float) for slide in "AB"], axis=0)
    for slide, mean in means.items():
        np.testing.assert_allclose(mean, expected, rtol=1e-5)
        here = fold.expression[fold.sample == slide]
        kept = found.expression[fold.sample == slide] - mean
        np.testing.assert_allclose(kept, here - here.mean(axis=0, dtype=float), atol=1e-5)
    assert found.expression.dtype == np.float32


@PROTOCOLS
def test_test_spots_keep_every_bit_and_nothing_but_expression_changes(fold, protocol):
    fold = replace(fold, protocol=protocol)
    before = content_hash(fold)
    found = centre_slides(fold)
    rows = fold.rows(TEST)
    assert found.expression[rows].tobytes() == fold.expression[rows].tobytes()
    assert content_hash(fold) == content_hash(replace(found, expression=fold.expression)) == before


@PROTOCOLS
@pytest.mark.parametrize("value", [0.0, 50.0, np.nan])
def test_no_test_expression_enters_the_training_targets(fold, protocol, value):
    fold = replace(fold, protocol=protocol)
    expression = fold.expression.copy()
    expression[fold.role == TEST] = value
    found = centre_slides(replace(fold, expression=expression))
    assert found.expression[fold.bank].tobytes() == centre_slides(fold).expression[fold.bank].tobytes()


def slopes(fold, embedded):
    """Weights of a ridge regression on raw features."""
    rows = fold.bank
    fitted, _ = Ridge(RidgeOptions(smallest_alpha=3, largest_alpha=3, n_alphas=1)).fit(
        embedded_spots(fold, rows, embedded), fold.expression[rows]
    )
    return fitted["weights"]


def test_an_offset_of_a_slide_changes_the_slopes_of_a_ridge_unless_targets_are_centred(fold, embedded):
    genes = len(fold.genes)
    shifted = with_offsets(fold, {"A": np.linspace(-2, 2, genes), "B": np.linspace(1, 4, genes)})
    plain, moved = slopes(fold, embedded), slopes(shifted, embedded)
    assert np.abs(moved - plain).max() > 0.1 * np.abs(plain).max()
    without = [slopes(centre_slides(one), embedded) for one in (fold, shifted)]
    np.testing.assert_allclose(*without, atol=1e-5)


def test_a_centred_fold_is_written_and_read_as_any_fold(fold, tmp_path):
    found = centre_slides(fold)
    write_fold(tmp_path / "fold_centred.h5", found)
    assert content_hash(read_fold(tmp_path / "fold_centred.h5")) == content_hash(found)


def test_rows_are_centred_on_their_own_slide():
    values = np.array([[1, 5], [3, 5], [10, 0]], dtype=np.float32)
    found = centred(values, np.array(["A", "A", "B"], dtype=object))
    np.testing.assert_array_equal(found, [[-1, 0], [1, 0], [0, 0]])


def test_features_have_mean_zero_and_deviation_one_on_each_slide():
    rng = np.random.default_rng(0)
    sample = np.array(list("ABABBABB"), dtype=object)
    values = (rng.normal(size=(8, 3)) * [1, 5, 0.01] + 7).astype(np.float32)
    found = standardised(values, sample)
    for slide in "AB":
        np.testing.assert_allclose(found[sample == slide].mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(found[sample == slide].std(axis=0), 1, rtol=1e-4)


def test_a_feature_that_is_constant_on_a_slide_is_zero_there():
    sample = np.array(list("AAABBB"), dtype=object)
    values = np.full((6, 2), 0.1, dtype=np.float32)
    values[:3, 0] = [1, 2, 3]
    values[3:, 1] *= np.array([1, 1 + 1e-7, 1 - 1e-7], dtype=np.float32)  # rounding is no signal
    found = standardised(values, sample)
    np.testing.assert_array_equal(found[:, 1], 0)
    np.testing.assert_array_equal(found[3:, 0], 0)
    np.testing.assert_allclose(found[:3, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)
