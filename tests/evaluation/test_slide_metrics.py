"""Claims about what a prediction preserves of a slide as a whole."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from arrays import square
from spotwise.evaluation import slide_metrics
from spotwise.evaluation.score_files import SLIDE_SCORE_COLUMNS
from spotwise.evaluation.scores import score_prediction
from spotwise.evaluation.slide_metrics import gene_gene_correlation, hvg_recovery, least_squares, similarity


def prediction(predicted, observed, reference=None, measured=True):
    """Make a prediction on the square array; genes are ranked by the slide's truth, or by ``reference``."""
    n, g = predicted.shape
    reference = observed if reference is None else reference
    run = {"cohort": "c", "protocol": "paper", "predictor": "P", "method": "M", "kind": "method", "k": 0, "k_used": 0}
    return ad.AnnData(
        predicted.astype(np.float32),
        obs=pd.DataFrame(index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(
            {
                "is_hvg": True,
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
    return slide_metrics.slide_scores(content, score_prediction(content), top)


@pytest.fixture
def expression():
    """100 spots, 60 genes that follow 3 patterns, with very different means and variances."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 60)) + 0.5 * rng.normal(size=(100, 60))
    return rng.uniform(0.5, 5, 60) + values * rng.uniform(0.1, 1, 60)


def test_the_truth_keeps_everything(expression):
    row = slide_scores(prediction(expression, expression), 20)
    assert tuple(row) == SLIDE_SCORE_COLUMNS
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
    truth = gene_gene_correlation(expression)
    shuffled = [gene_gene_correlation(expression[:, rng.permutation(60)]) for _ in range(20)]
    assert np.mean([similarity(one, truth) for one in shuffled]) == pytest.approx(0, abs=0.05)


def test_similarity_is_undefined_only_where_the_truth_is():
    truth = np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    assert np.isnan(similarity(np.ones((3, 3)), truth))  # one pair
    assert np.isnan(similarity(np.ones((3, 3)), np.ones((3, 3))))  # all pairs level
    varied = np.array([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
    assert similarity(np.full((3, 3), np.nan), varied) == 0
    assert similarity(np.full((3, 3), 0.7), varied) == 0


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
    assert least_squares(x, y) == pytest.approx((0.6, 0.6))
    assert np.isnan(least_squares(np.ones(3), np.arange(3.0))).all()


def test_recovered_genes_are_counted_by_hand():
    genes = pd.DataFrame(
        {"gene": list("FEDCBA"), "observed_var": [6, 5, 4, 3, 2, 1.0], "predicted_var": [0.1, 0, 0, 0.3, 0.2, 0.2]}
    )
    # truth F E D; own C, then A and B level with each other, then F
    assert hvg_recovery(genes, 3) == 0
    # truth F E D C; own C A B F
    assert hvg_recovery(genes, 4) == 0.5
    # truth F E D C B; own C A B F and no more: E and D do not vary
    assert hvg_recovery(genes, 5) == pytest.approx(3 / 5)
    # truth F; own C
    assert hvg_recovery(genes, 1) == 0
    few = genes.assign(observed_var=[1, 0, 0, 0, 0, 2])
    # truth A F; own C and A, which comes before B
    assert hvg_recovery(few, 2) == 0.5
    # truth A F and no more; own C A B F
    assert hvg_recovery(few, 4) == 1
    assert np.isnan(hvg_recovery(genes.assign(observed_var=0.0), 3))


def test_recovery_looks_at_the_slides_own_truth_not_at_the_ranks_of_the_protocol(expression):
    content = prediction(expression, expression, reference=expression[:, ::-1])
    assert slide_scores(content, 20)["hvg_recovery"] == 1


def test_markers_that_no_slide_chose_as_variable_are_neither_recovered_nor_counted(expression):
    content = prediction(expression, expression)
    first = np.argsort(-expression.var(axis=0))[:10]
    content.X[:, first] = 0  # would lose half of the list
    content.var["is_hvg"] = ~np.isin(np.arange(60), first)
    row = slide_scores(content, 20)
    assert row["hvg_recovery"] == row["correlation_HVG"] == pytest.approx(1)
    assert row["hvg_chance"] == pytest.approx(20 / 50)


def test_random_variances_recover_what_chance_would():
    rng = np.random.default_rng(8)
    genes = pd.DataFrame({"gene": [f"G{i}" for i in range(400)], "observed_var": rng.random(400)})
    found = [hvg_recovery(genes.assign(predicted_var=rng.random(400)), 50) for _ in range(200)]
    assert np.mean(found) == pytest.approx(50 / 400, abs=0.01)


def test_constant_genes_leave_undefined_rows_and_the_others_those_of_numpy(expression):
    values = expression[:, :7].copy()
    values[:, 3] = 0.1
    matrix, others = gene_gene_correlation(values), np.delete(np.arange(7), 3)
    assert np.isnan(matrix[3]).all()
    assert np.isnan(matrix[:, 3]).all()
    np.testing.assert_allclose(matrix[np.ix_(others, others)], np.corrcoef(values[:, others].T), atol=1e-12)


def test_a_prediction_that_is_constant_in_part_is_less_like_the_truth(expression):
    truth = gene_gene_correlation(expression)
    assert similarity(gene_gene_correlation(3 * expression + 7), truth) == pytest.approx(1)
    partly = truth.copy()
    partly[:25] = partly[:, :25] = np.nan
    assert 0 < similarity(partly, truth) < 1
