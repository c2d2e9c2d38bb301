"""Confidence intervals of Table 1's averages, and paired comparisons of predictors.

Three questions about a difference between two predictors, each with its own answer:

* Would it be there on other slides and with other genes of the kind? The confidence interval, which resamples both.
* Do the genes of this set, on these slides, lean to one predictor? The signed-rank test.
* Would it survive another training? The standard deviation over seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used

from spotwise.constants import ALL_COHORTS, BOUNDS, CONTROL
from spotwise.errors import InputError
from spotwise.runtime.files import write_table

LEVEL = 0.95
DRAWS_SEED = 2007
LARGEST_EXACT = 50  # genes up to which the signed-rank distribution is enumerated; scipy's own rule

# what of the scores is used here
COLUMNS = ["cohort", "protocol", "predictor", "kind", "fold", "seed", "sample", "gene", "pcc"]
COLUMNS += ["rank_mean", "rank_var", "is_marker", "is_measured"]
GROUP_KEYS = ["cohort", "protocol", "gene_set"]
INTERVAL_COLUMNS = [*GROUP_KEYS, "predictor", "kind", "mean", "ci_low", "ci_high", "n_genes", "n_units", "seed_sd"]
COMPARISON_COLUMNS = [
    *GROUP_KEYS,
    "first",
    "second",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
    "n_genes",
    "n_units",
    "statistic",
    "p",
    "p_holm",
    "seed_sd",
]


@dataclass(frozen=True)
class Block:
    """The scores of one cohort, protocol and gene set.

    Attributes
    ----------
    cells
        PCC, seeds averaged: rows (fold, sample, gene) x predictors.
    seeds
        Table 1's average for each seed: seeds x predictors; NaN where a predictor did not run with a seed.
    kinds
        (predictors,) method or control.
    """

    cells: pd.DataFrame
    seeds: pd.DataFrame
    kinds: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """(predictors,) Table 1's average: over genes, then slides, then folds."""
        return self.cells.groupby(["fold", "sample"]).mean().groupby("fold").mean().mean().to_numpy()

    @property
    def genes(self) -> np.ndarray:
        """(genes, predictors) average of each gene over slides, then folds."""
        return self.cells.groupby(["fold", "gene"]).mean().groupby("gene").mean().to_numpy()


@dataclass(frozen=True)
class Deviations:
    """By how much resampling moves some means from their estimates.

    Attributes
    ----------
    units, genes
        (draws, means) when only the units, or only the genes, are drawn.
    interaction
        (draws, means) when both are drawn, less the sum of these two.
    n_units, n_genes
        How many units and genes there are to draw from.
    """

    units: np.ndarray
    genes: np.ndarray
    interaction: np.ndarray
    n_units: int
    n_genes: int

    def pairs(self, first: np.ndarray, second: np.ndarray) -> Deviations:
        """Deviations of the differences between columns ``first`` and columns ``second``."""
        differences = (draws[:, first] - draws[:, second] for draws in (self.units, self.genes, self.interaction))
        return Deviations(*differences, self.n_units, self.n_genes)

    def variances(self) -> np.ndarray:
        """Unbiased variances of the means, from two sources.

        Of n things, draws with replacement vary by (n - 1) / n of what new samples would. Drawing the units counts the
        noise of single (slide, gene) cells, and so does drawing the genes; the interaction is that noise, and is taken
        off once, as in the analysis of variance of a crossed design (Owen 2007).

        Returns
        -------
        (2, means)
            From the units, noise of the cells included, NaN with one unit; and from the genes, 0 with one gene.
        """
        by_units = self.n_units / (self.n_units - 1) if self.n_units > 1 else np.nan
        by_genes = self.n_genes / max(self.n_genes - 1, 1)  # one gene: nothing to draw, so no variance either
        units, genes, noise = (np.mean(draws**2, axis=0) for draws in (self.units, self.genes, self.interaction))
        return np.array([by_units * units, np.maximum(by_genes * genes - by_units * by_genes * noise, 0.0)])


def deviations(cells: pd.DataFrame, draws: int) -> Deviations:
    """Resample the units and genes of one cohort, protocol and gene set.

    Both are drawn with replacement, each alone and at once (the pigeonhole bootstrap: Owen, Ann Appl Stat 1:386, 2007).
    The unit is the fold, which is what was left out: a slide under `paper`, a patient with all slides under `patient`.
    Slides may have different gene lists: a gene counts as often as it was drawn on those slides whose list holds it,
    and a slide of which no gene was drawn keeps its mean. The draws depend on the numbers of units and genes alone, so
    that all predictors share them.

    Parameters
    ----------
    cells
        PCC: rows (fold, sample, gene) x predictors.
    draws
        How many.
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
    """Mean over one slide's genes (genes, predictors), each counted as often as it was drawn (draws, genes)."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts @ values / np.maximum(total, 1), values.mean(axis=0))


def half_widths(cohorts: Sequence[Deviations]) -> np.ndarray:
    """Half the width of the 95 % intervals of means over cohorts, or of means in the only one.

    A percentile interval is far too narrow with two to five units (Hesterberg, Am Stat 69:371, 2015). Here the draws
    give an unbiased variance for either source, units and genes, and each source has its own quantile of Student's t,
    with as many degrees of freedom as it has members less one; the mean of the two quantiles, weighted with the
    variances, is taken times the standard error (Cochran, Biometrics 20:191, 1964). Several cohorts are resampled each
    for itself; the variances of a source are added up over them first, with degrees of freedom after Satterthwaite
    (Biometrics Bull 2:110, 1946).

    Coverage in %, measured on crossed random effects of 50 genes (4,000 simulations, 1,000 draws of the bootstrap;
    variances of slides : genes : noise, the first about those of real sections) for so many slides, and that of a plain
    percentile interval for four:

    ============================================  ====  ====  ====  ====  ====  ==========
    simulated                                        2     3     4     6    12  percentile
    ============================================  ====  ====  ====  ====  ====  ==========
    0.3 : 0.3 : 1                                 94.0  94.7  95.2  95.4  95.0        87.8
    0.3 : 1 : 1                                   94.6  95.4  95.3  96.3  95.1        89.1
    1 : 0.3 : 1                                   93.6  95.3  94.9  95.4  95.2        82.2
    0.05 : 0.5 : 1                                95.1  96.0  96.0  96.3  96.0        94.8
    0 : 0.5 : 1                                   97.2  97.0  96.5  95.5  95.4        97.8
    0 : 0 : 1                                     95.3  95.5  95.6  95.9  95.7        99.4
    the first, gene lists that share a half       94.2        95.5  95.2              87.4
    the first, 5 genes                            96.4        96.7  96.2              93.4
    the first, exponential slide effects          92.2        91.0        92.6        85.7
    the first, each effect shared by 5 genes      94.3        93.8        87.5        83.4
    0.05 : 0.5 : 1, each effect shared by 5       93.1        85.0        69.2        79.2
    ============================================  ====  ====  ====  ====  ====  ==========

    So it covers too seldom where slides are skewed, and far too seldom where genes go in groups while slides hardly
    differ: genes are drawn one by one. Means over six cohorts of 4, 2, 4, 4, 4, 4 slides gave 96.0, and 91.4 where the
    slides of the cohort of two varied three times as much as all others. With two units the width itself is a matter
    of luck: where they happen to agree it is small. And what no resampling of results sees: folds share their training
    slides, and sections of one patient are no independent slides.

    Parameters
    ----------
    cohorts
        Deviations of the same means, or differences, in every cohort.

    Returns
    -------
    (means,)
        NaN with a cohort of one unit, which has no spread. A single gene cannot be resampled: the interval is then one
        over units alone.
    """
    variances = np.array([cohort.variances() for cohort in cohorts]) / len(cohorts) ** 2  # (cohorts, 2, means)
    freedom = np.array([[[max(n - 1, 1)] for n in (cohort.n_units, cohort.n_genes)] for cohort in cohorts])
    pooled = variances.sum(axis=0)
    squares = (variances**2 / freedom).sum(axis=0)
    satterthwaite = np.divide(pooled**2, squares, out=np.ones_like(pooled), where=squares > 0)
    total = pooled.sum(axis=0)
    weighted = (pooled * scipy.stats.t.ppf((1 + LEVEL) / 2, satterthwaite)).sum(axis=0)
    return np.divide(weighted, np.sqrt(total), out=total.copy(), where=total > 0)


def mean_intervals(scores: pd.DataFrame, sets: Mapping[str, pd.Series], draws: int) -> pd.DataFrame:
    """Table 1's average of every predictor, with its confidence interval.

    Parameters
    ----------
    scores
        One row per gene and prediction file, `score_files.SCORE_COLUMNS`;
        rows keep their order.
    sets
        Name -> boolean mask over the rows, as `gene_sets.gene_sets` gives.
    draws
        Bootstrap draws.

    Returns
    -------
    DataFrame
        `INTERVAL_COLUMNS`. ``cohort`` is also "all cohorts", for their mean, where a protocol has several and each has
        the gene set. n_genes: genes that are in the set on any slide; n_units: slides (`paper`) or patients
        (`patient`); seed_sd: standard deviation over seeds, NaN with one. Limits are cut at -1 and 1. A gene set that
        holds no gene has no rows.

    Raises
    ------
    InputError
        A predictor lacks scores that others have.
    """
    parts = []
    for keys, blocks in _groups(scores, sets):
        half = half_widths([deviations(block.cells, draws) for block in blocks])
        mean = np.mean([block.means for block in blocks], axis=0)
        facts = {"predictor": blocks[0].cells.columns, "kind": blocks[0].kinds, **_counts(blocks)}
        part = pd.DataFrame({**_interval("mean", mean, half, 1.0), "seed_sd": _seed_sd(blocks, np.arange(len(mean)))})
        parts.append(part.assign(**keys, **facts))
    return _joined(parts, INTERVAL_COLUMNS)


def comparisons(scores: pd.DataFrame, sets: Mapping[str, pd.Series], draws: int) -> pd.DataFrame:
    """Compare all pairs of methods, and every method with every control that sees no image.

    Parameters
    ----------
    scores, sets, draws
        As in `mean_intervals`.

    Returns
    -------
    DataFrame
        `COMPARISON_COLUMNS`. difference: of Table 1's averages, first minus second; ci_low and ci_high: its interval,
        both predictors resampled by the same draws, cut at -2 and 2.

        statistic and p: Wilcoxon's signed-rank test, two-sided, over genes, each averaged over seeds, slides and folds
        (for all cohorts: the genes of each). Genes that do not differ are left out; up to 50 genes p is exact. It asks
        whether the genes of the set, *on these slides*, lean to one side. A slide lifts or drops many genes at once, so
        that p says little about other slides, which is what the interval is for: of equal predictors on four slides, 47
        % came out with p below 0.05 at variances of slides : genes : noise of 0.3 : 0.3 : 1, 14 % at 0.05 : 0.5 : 1,
        5.5 % where slides did not differ. p_holm: Holm's correction (Scand J Stat 6:65, 1979) over all pairs of one
        cohort, protocol and gene set.

        effect_size: matched-pairs rank-biserial correlation, the share of the rank sum in favour of the first less the
        share against it (Kerby, Compr Psychol 3:11.IT.3.1, 2014): 1 where the first is better for every gene. seed_sd:
        standard deviation of the difference over seeds, NaN where both run once.

    Raises
    ------
    InputError
        A predictor lacks scores that others have.
    """
    parts = []
    for keys, blocks in _groups(scores, sets):
        names = blocks[0].cells.columns.to_numpy(str)
        first, second = _pairs(names, blocks[0].kinds)
        if not len(first):
            continue
        half = half_widths([deviations(block.cells, draws).pairs(first, second) for block in blocks])
        mean = np.mean([block.means for block in blocks], axis=0)
        genes = np.concatenate([block.genes for block in blocks])
        tests = signed_ranks(genes[:, first] - genes[:, second])
        part = pd.DataFrame(_interval("difference", mean[first] - mean[second], half, 2.0) | tests)
        facts = {"first": names[first], "second": names[second], **_counts(blocks)}
        parts.append(part.assign(**keys, **facts, p_holm=holm(part["p"]), seed_sd=_seed_sd(blocks, first, second)))
    return _joined(parts, COMPARISON_COLUMNS)


def signed_ranks(differences: np.ndarray) -> dict[str, np.ndarray]:
    """Wilcoxon's signed-rank test and the matched-pairs rank-biserial correlation of each column.

    Parameters
    ----------
    differences
        (genes, pairs). Zeros are left out; a column of zeros has p = 1 and effect 0.

    Returns
    -------
    dict
        ``statistic`` (the smaller rank sum), ``p`` and ``effect_size``, each (pairs,).
    """
    ranks = scipy.stats.rankdata(np.where(differences == 0, np.nan, np.abs(differences)), axis=0, nan_policy="omit")
    better, worse = np.where(differences > 0, ranks, 0).sum(axis=0), np.where(differences < 0, ranks, 0).sum(axis=0)
    differs = better + worse > 0
    effect = np.divide(better - worse, better + worse, out=np.zeros(len(differs)), where=differs)
    p = np.ones(len(differs))
    if differs.any():
        method = "exact" if len(differences) <= LARGEST_EXACT else "asymptotic"
        p[differs] = scipy.stats.wilcoxon(differences[:, differs], axis=0, method=method).pvalue
    return {"statistic": np.minimum(better, worse), "p": p, "effect_size": effect}


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction of the p-values of one family."""
    from statsmodels.stats.multitest import multipletests  # slow to import: not for those who only ask for intervals

    return multipletests(p, method="holm")[1]


def write(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write intervals or comparisons as CSV, atomically: six significant digits, as p-values may be small."""
    write_table(table, path, float_format="%.6g")


def _groups(scores: pd.DataFrame, sets: Mapping[str, pd.Series]) -> Iterator[tuple[dict[str, str], list[Block]]]:
    """Cohort, protocol and gene set with one block each; then all cohorts of a protocol, with the blocks of each."""
    predictors = scores["predictor"].unique()
    order = scores[["cohort", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    blocks = {key: {} for key in order}  # (cohort, protocol) -> gene set -> block
    for name, mask in sets.items():
        for key, rows in scores[mask].groupby(["cohort", "protocol"]):
            blocks[key][name] = _block(rows, predictors)
    for key, of_sets in blocks.items():
        for name in filter(of_sets.get, sets):
            yield dict(zip(GROUP_KEYS, (*key, name), strict=True)), [of_sets[name]]
    for protocol in dict.fromkeys(protocol for _, protocol in blocks):
        cohorts = [of_sets for (_, of), of_sets in blocks.items() if of == protocol]
        for name in sets:
            if len(cohorts) > 1 and all(name in of_sets for of_sets in cohorts):
                keys = dict(zip(GROUP_KEYS, (ALL_COHORTS, protocol, name), strict=True))
                yield keys, [of_sets[name] for of_sets in cohorts]


def _block(scores: pd.DataFrame, predictors: Sequence[str]) -> Block:
    cells = scores.groupby(["fold", "sample", "gene", "predictor"])["pcc"].mean().unstack().reindex(columns=predictors)
    missing = cells.isna()
    for name in predictors[missing.any()]:
        _, slide, gene = missing[name].idxmax()
        raise InputError("scores", name, f"no score for {gene} on {slide}", "one, as other predictors have it")
    slides = scores.groupby(["predictor", "seed", "fold", "sample"])["pcc"].mean()
    seeds = slides.groupby(["predictor", "seed", "fold"]).mean().groupby(["predictor", "seed"]).mean()
    kinds = scores.drop_duplicates("predictor").set_index("predictor")["kind"]
    return Block(cells, seeds.unstack("predictor")[predictors], kinds[predictors].to_numpy(str))


def _pairs(names: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns to compare, first and second: all pairs of methods, and methods with controls that are no bound."""
    first, second = np.triu_indices(len(names), k=1)
    control, bound = kinds == CONTROL, np.isin(names, BOUNDS)
    compared = ~(control[first] & control[second]) & ~bound[first] & ~bound[second]
    first, second = first[compared], second[compared]
    swap = control[first]
    return np.where(swap, second, first), np.where(swap, first, second)


def _interval(name: str, values: np.ndarray, half: np.ndarray, limit: float) -> dict[str, np.ndarray]:
    """Values and the limits of their intervals, none beyond what can be."""
    low, high = np.clip([values - half, values + half], -limit, limit)
    return {name: values, "ci_low": low, "ci_high": high}


def _counts(blocks: Sequence[Block]) -> dict[str, int]:
    indices = [block.cells.index for block in blocks]
    return {
        "n_genes": sum(index.unique("gene").size for index in indices),
        "n_units": sum(index.unique("fold").size for index in indices),
    }


def _seed_sd(blocks: Sequence[Block], first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation over seeds of means or differences; a predictor that runs once is the same for all seeds."""
    seeds = sum(block.seeds.fillna(block.seeds.mean()) for block in blocks) / len(blocks)  # (seeds, predictors)
    repeated = (blocks[0].seeds.notna().sum() > 1).to_numpy()
    values, varies = seeds.to_numpy()[:, first], repeated[first]
    if second is not None:
        values, varies = values - seeds.to_numpy()[:, second], varies | repeated[second]
    return np.where(varies, pd.DataFrame(values).std(ddof=1), np.nan)


def _joined(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
