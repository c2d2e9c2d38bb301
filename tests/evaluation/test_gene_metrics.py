"""Claims about correlation and error per gene: they equal the libraries', and constant genes score 0."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import explained_variance_score

from spotwise.evaluation.gene_metrics import explained_variance_per_gene, pearson_per_gene, spearman_per_gene


@pytest.fixture
def expression():
    rng = np.random.default_rng(0)
    observed = rng.gamma(2, size=(80, 600))
    return 0.4 * observed + rng.normal(size=observed.shape), observed


def test_pcc_equals_scipy_gene_by_gene(expression):
    # 600 genes cross the border between two blocks of genes
    predicted, observed = expression
    pcc, is_constant = pearson_per_gene(predicted, observed)
    expected = [pearsonr(predicted[:, g], observed[:, g]).statistic for g in range(observed.shape[1])]
    np.testing.assert_allclose(pcc, expected, atol=1e-12)
    assert not is_constant.any()
    assert pcc.dtype == np.float64


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_pcc_of_float32_keeps_its_digits_under_a_large_offset(offset):
    rng = np.random.default_rng(1)
    predicted = (offset + rng.normal(size=(500, 3))).astype(np.float32)
    observed = (offset + predicted - offset + rng.normal(size=(500, 3))).astype(np.float32)
    pcc, _ = pearson_per_gene(predicted, observed)
    # by hand, in exact rational arithmetic's place: 80-bit floats on numbers made small first
    p, o = (np.longdouble(x) - np.longdouble(offset) for x in (predicted, observed))
    p, o = p - p.mean(axis=0), o - o.mean(axis=0)
    expected = (p * o).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * (o * o).sum(axis=0))
    np.testing.assert_allclose(pcc, expected.astype(float), atol=1e-12)


def test_pcc_of_tiny_values_does_not_underflow(expression):
    predicted, observed = expression
    pcc, is_constant = pearson_per_gene(predicted * 1e-200, observed * 1e-200)
    np.testing.assert_allclose(pcc, pearson_per_gene(predicted, observed)[0], atol=1e-9)
    assert not is_constant.any()


def test_constant_genes_score_zero_and_are_flagged(expression):
    predicted, observed = (x[:, :3].copy() for x in expression)
    predicted[:, 0] = 0.1  # the mean of eighty 0.1 is not 0.1: centring leaves dust
    observed[:, 1] = 1 / 3
    assert (predicted[:, 0] - predicted[:, 0].mean()).any()
    pcc, is_constant = pearson_per_gene(predicted, observed)
    assert is_constant.tolist() == [True, True, False]
    assert pcc[:2].tolist() == [0.0, 0.0]
    assert pcc[2] != 0


def test_a_gene_that_varies_in_its_last_digits_is_not_constant():
    values = np.array([[1e6], [1e6 + 1e-6], [1e6], [1e6 + 1e-6]])
    pcc, is_constant = pearson_per_gene(values, np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert not is_constant[0]
    assert pcc[0] == pytest.approx(1)


def test_one_spot_makes_every_gene_constant():
    pcc, is_constant = pearson_per_gene(np.ones((1, 2)), np.zeros((1, 2)))
    assert pcc.tolist() == [0, 0]
    assert is_constant.all()


@pytest.mark.parametrize(
    ("predicted", "observed", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), "one shape"),
        (np.zeros(3), np.zeros(3), "one shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "no spots"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), "predicted holds values that are not finite"),
        (np.zeros((3, 1)), np.full((3, 1), np.inf), "observed holds values that are not finite"),
        (np.zeros((3, 1)), np.array([[0], [-np.inf], [1]]), "observed holds values that are not finite"),
        (np.zeros((3, 1)), np.array([[0], [np.inf], [1]]), "observed holds values that are not finite"),
    ],
)
def test_what_cannot_be_correlated_is_refused(predicted, observed, message):
    with pytest.raises(ValueError, match=message):
        pearson_per_gene(predicted, observed)


def test_spearman_equals_scipy_gene_by_gene_with_ties(expression):
    predicted, observed = (values.round().astype(np.float32) for values in expression)
    expected = [spearmanr(predicted[:, g], observed[:, g]).statistic for g in range(600)]
    assert len(np.unique(observed)) < 20
    np.testing.assert_allclose(spearman_per_gene(predicted, observed), expected, atol=1e-12)


def test_spearman_depends_on_the_order_alone():
    observed = np.array([[1.0, 0.1], [2, 0.1], [3, 0.1], [1000, 0.1]])
    predicted = np.array([[0.0, 1], [1, 2], [30, 3], [31, 4]])
    assert spearman_per_gene(predicted, observed).tolist() == pytest.approx([1, 0])
    assert spearman_per_gene(-predicted, observed).tolist() == pytest.approx([-1, 0])


def test_explained_variance_equals_scikit_learn(expression):
    predicted, observed = expression
    expected = explained_variance_score(observed, predicted, multioutput="raw_values")
    assert expected.min() < 0 < expected.max()
    for shift in (0, 5):  # a wrong level costs nothing
        np.testing.assert_allclose(explained_variance_per_gene(predicted + shift, observed), expected, atol=1e-12)


def test_explained_variance_punishes_the_wrong_contrast():
    observed = np.array([[0.0, 0.1], [1, 0.1], [2, 0.1]])
    # residuals are (1 - f) times the truth's deviations
    for factor, expected in ((1, 1), (0.5, 0.75), (0, 0), (2, 0), (3, -3), (-1, -3)):
        assert explained_variance_per_gene(factor * observed, observed).tolist() == pytest.approx([expected, 0])
