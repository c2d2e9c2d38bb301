"""Bootstrap confidence intervals of means over slides and genes.

`scipy.stats.bootstrap` resamples one axis of independent observations, while slides and genes are crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used

LEVEL = 0.95
DRAWS_SEED = 2007


@dataclass(frozen=True)
class Deviations:
    """Deviations (draws, means) of resampled means from their estimates.

    ``units`` and ``genes`` are those when only the units, or only the genes, are drawn, and ``interaction`` is what is
    left when both are drawn.
    """

    units: np.ndarray
    genes: np.ndarray
    interaction: np.ndarray
    n_units: int
    n_genes: int

    def pairs(self, first: np.ndarray, second: np.ndarray) -> Deviations:
        """Subtract columns ``second`` from columns ``first``."""
        differences = (draws[:, first] - draws[:, second] for draws in (self.units, self.genes, self.interaction))
        return Deviations(*differences, self.n_units, self.n_genes)

    def variances(self) -> np.ndarray:
        """Estimate the variances (2, means) of the means from units and genes without bias.

        Of n things, draws with replacement vary by (n - 1) / n of what new samples would. Drawing the units counts the
        noise of single (slide, gene) cells, and so does drawing the genes; the interaction is that noise, and is
        subtracted once, as in the analysis of variance of a crossed design (Owen 2007). The variance is NaN with one
        unit, and 0 with one gene.
        """
        by_units = self.n_units / (self.n_units - 1) if self.n_units > 1 else np.nan
        by_genes = self.n_genes / max(self.n_genes - 1, 1)  # one gene: nothing to draw, so no variance either
        units, genes, noise = (np.mean(draws**2, axis=0) for draws in (self.units, self.genes, self.interaction))
        return np.array([by_units * units, np.maximum(by_genes * genes - by_units * by_genes * noise, 0.0)])


def deviations(cells: pd.DataFrame, draws: int) -> Deviations:
    """Resample the units and genes of ``cells``, the PCC of one cohort, protocol and gene set.

    Both are drawn with replacement, each alone and together (the pigeonhole bootstrap: Owen, Ann Appl Stat 1:386,
    2007). The unit is the test fold: a slide under `paper`, a patient with all slides under `patient`. Slides may have
    different gene lists: a gene counts as often as it was drawn on those slides whose list holds it, and a slide of
    which no gene was drawn keeps its mean. All predictors share the draws. Rows of ``cells`` are (fold, sample, gene),
    columns predictors.
    """
    folds, slides, genes = (cells.index.get_level_values(level).to_numpy() for level in ("fold", "sample", "gene"))
    units = np.unique(folds)
    names, gene = np.unique(genes, return_inverse=True)
    rng = np.random.default_rng(DRAWS_SEED)
    drawn_units, drawn_genes = (
        rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float) for n in (len(units), len(names))
    )
    values = cells.to_numpy()
    plain = np.empty((len(units), values.shape[1]))  # (units, predictors)
    drawn = np.empty((draws, *plain.shape))
    for place, unit in enumerate(units):
        of_slides = [(folds == unit) & (slides == slide) for slide in np.unique(slides[folds == unit])]
        plain[place] = np.mean([values[rows].mean(axis=0) for rows in of_slides], axis=0)
        drawn[:, place] = np.mean([_drawn_mean(values[rows], drawn_genes[:, gene[rows]]) for rows in of_slides], axis=0)
    means = plain.mean(axis=0)
    by_units = drawn_units @ plain / len(units) - means
    by_genes = drawn.mean(axis=1) - means
    both = np.einsum("du,dup->dp", drawn_units, drawn) / len(units) - means
    return Deviations(by_units, by_genes, both - by_units - by_genes, len(units), len(names))


def _drawn_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average one slide's genes (genes, predictors), weighted by ``counts`` (draws, genes)."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts @ values / np.maximum(total, 1), values.mean(axis=0))


def half_widths(cohorts: Sequence[Deviations]) -> np.ndarray:
    """Compute half the width (means,) of 95 % intervals of means over cohorts.

    Either source, units and genes, has its own quantile of Student's t, with one degree of freedom less than it has
    members. Their mean, weighted with the variances, is multiplied by the standard error (Cochran, Biometrics 20:191,
    1964). The variances of a source are summed over cohorts, which are independent, with degrees of freedom after
    Satterthwaite (Biometrics Bull 2:110, 1946). docs/statistics.md gives the measured coverage.

    The width is NaN with a cohort of one unit. With a single gene the interval is one over units alone.
    """
    variances = np.array([cohort.variances() for cohort in cohorts]) / len(cohorts) ** 2  # (cohorts, 2, means)
    freedom = np.array([[[max(n - 1, 1)] for n in (cohort.n_units, cohort.n_genes)] for cohort in cohorts])
    pooled = variances.sum(axis=0)
    squares = (variances**2 / freedom).sum(axis=0)
    satterthwaite = np.divide(pooled**2, squares, out=np.ones_like(pooled), where=squares > 0)
    total = pooled.sum(axis=0)
    weighted = (pooled * scipy.stats.t.ppf((1 + LEVEL) / 2, satterthwaite)).sum(axis=0)
    return np.divide(weighted, np.sqrt(total), out=total.copy(), where=total > 0)
