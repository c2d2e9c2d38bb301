"""Claims about bootstrap intervals: their coverage, and the variances they are made of."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from handmade import slide_rows, together
from spotwise.evaluation.bootstrap_intervals import deviations, half_widths


def crossed(slides, genes, of_slides, of_genes, noise, n=1000, seed=3):
    """Cells of crossed random effects with mean 0: a column for every simulation."""
    normal = np.random.default_rng(seed).standard_normal
    values = np.sqrt(of_slides) * normal((slides, 1, n)) + np.sqrt(of_genes) * normal((1, genes, n))
    values = values + np.sqrt(noise) * normal((slides, genes, n))
    index = pd.MultiIndex.from_product([range(slides), ["S"], range(genes)], names=["fold", "sample", "gene"])
    return pd.DataFrame(values.reshape(-1, n), index=index)


def mean_squares(cells):
    """Analysis of variance of the first column: mean squares of slides, genes and what is left."""
    values = cells[0].unstack("gene").to_numpy()
    slides, genes = values.shape
    of_slides, of_genes = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - of_slides - of_genes + values.mean()
    of_rest = (rest**2).sum() / ((slides - 1) * (genes - 1))
    return genes * np.var(of_slides, ddof=1), slides * np.var(of_genes, ddof=1), of_rest


def covered(cells, width=1.0):
    """Share of the simulations whose interval holds the true mean, 0."""
    half = half_widths([deviations(cells, 600)])
    return np.mean(np.abs(cells.mean().to_numpy()) <= width * half)


@pytest.mark.parametrize("slides", [4, 6, 12])
@pytest.mark.parametrize("variances", [(0.3, 0.3, 1), (0.3, 1, 1), (1, 0.3, 1), (0.05, 0.5, 1)])
def test_a_95_percent_interval_covers_the_truth_as_often_as_it_says(slides, variances):
    assert 0.93 <= covered(crossed(slides, 50, *variances)) <= 0.97


def test_the_check_of_coverage_distinguishes_narrow_and_wide_intervals():
    cells = crossed(4, 50, 0.3, 0.3, 1)
    assert covered(cells, width=0.75) < 0.93
    assert covered(cells, width=1.35) > 0.97


@pytest.mark.parametrize("slides", [2, 3])
def test_two_and_three_slides_are_covered_too(slides):
    assert 0.92 <= covered(crossed(slides, 50, 0.3, 0.3, 1)) <= 0.98


def test_a_percentile_interval_of_four_slides_would_be_too_narrow():
    cells = crossed(4, 50, 0.3, 0.3, 1)
    moved = deviations(cells, 600)
    means = cells.mean().to_numpy() + moved.units + moved.genes + moved.interaction
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert np.mean((low <= 0) & (high >= 0)) < 0.91


@pytest.mark.parametrize("variances", [(0.3, 0.3, 1), (1, 0.1, 0.1), (0.05, 2, 0.1)])
def test_variances_are_those_of_the_analysis_of_variance(variances):
    cells = crossed(5, 20, *variances, n=1, seed=3)
    of_slides, of_genes, rest = mean_squares(cells)
    units, genes = deviations(cells, 40_000).variances()[:, 0]
    assert units == pytest.approx(of_slides / 100, rel=0.04)
    assert genes == pytest.approx(max(of_genes - rest, 0) / 100, rel=0.06)


def test_several_cohorts_are_covered_as_one():
    cohorts = [crossed(slides, 50, 0.3, 0.3, 1, seed=place) for place, slides in enumerate((4, 2, 4, 4, 3, 4))]
    half = half_widths([deviations(cells, 600) for cells in cohorts])
    mean = np.mean([cells.mean().to_numpy() for cells in cohorts], axis=0)
    assert 0.93 <= np.mean(np.abs(mean) <= half) <= 0.975


def test_genes_and_slides_have_each_their_own_quantile():
    cells = crossed(4, 30, 0.3, 1, 1, n=1, seed=5)
    of_slides, of_genes, rest = mean_squares(cells)
    units, genes = of_slides / 120, (of_genes - rest) / 120
    expected = (units * stats.t.ppf(0.975, 3) + genes * stats.t.ppf(0.975, 29)) / np.sqrt(units + genes)
    assert half_widths([deviations(cells, 40_000)])[0] == pytest.approx(expected, rel=0.03)


def test_a_gene_is_drawn_on_all_slides_at_once():
    """The same genes with the same values everywhere: slides add nothing, and more of them make nothing surer."""
    pcc = [0.0, 0.2, 0.4, 0.6, 0.8]
    scores, _ = together(slide_rows("STNet", [pcc] * 4))
    cells = scores.pivot(index=["fold", "sample", "gene"], columns="predictor", values="pcc")
    units, genes = deviations(cells, 40_000).variances()[:, 0]
    assert units == pytest.approx(0, abs=1e-20)
    assert genes == pytest.approx(0.1 / 5, rel=0.03)  # their variance is 0.1


def test_lists_without_a_common_gene_leave_the_variance_to_the_slides():
    """Every slide has genes of its own: their scatter is part of that of the slides and is not counted again."""
    cells = crossed(4, 25, 0, 0, 1, n=400, seed=9)
    cells.index = pd.MultiIndex.from_arrays([cells.index.get_level_values(level) for level in ("fold", "sample")])
    cells = cells.set_index(pd.Index(range(100), name="gene"), append=True)
    units, genes = deviations(cells, 1000).variances().mean(axis=1)
    assert units == pytest.approx(1 / 100, rel=0.1)
    assert genes < 0.1 * units
