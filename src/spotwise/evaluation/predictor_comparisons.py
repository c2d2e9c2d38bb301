"""Mean scores of predictors with confidence intervals, and paired comparisons between predictors.

docs/statistics.md says which question intervals, tests and spreads over seeds answer.
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
from spotwise.evaluation.bootstrap_intervals import deviations, half_widths
from spotwise.runtime.files import write_table

LARGEST_EXACT = 50  # number of genes up to which the signed-rank distribution is exact, as in scipy

# columns of the scores that comparisons are made of
COMPARED_COLUMNS = ["cohort", "protocol", "predictor", "kind", "fold", "seed", "sample", "gene", "pcc"]
COMPARED_COLUMNS += ["rank_mean", "rank_var", "is_marker", "is_measured", "note"]
GROUP_KEYS = ["cohort", "protocol", "gene_set"]
INTERVAL_COLUMNS = [*GROUP_KEYS, "predictor", "kind", "mean", "ci_low", "ci_high", "n_genes", "n_units", "seed_sd"]
COMPARISON_COLUMNS = [*GROUP_KEYS, "first", "second", "difference", "ci_low", "ci_high", "effect_size"]
COMPARISON_COLUMNS += ["n_genes", "n_units", "statistic", "p", "p_holm", "seed_sd"]


@dataclass(frozen=True)
class Block:
    """Scores of one cohort, protocol and gene set.

    ``cells`` are PCC, seeds averaged: rows (fold, sample, gene) x predictors. ``seeds`` are means: seeds x predictors,
    NaN where a predictor did not run with a seed. ``kinds`` (predictors,) are `METHOD`, `EXTERNAL` or
    `CONTROL`.
    """

    cells: pd.DataFrame
    seeds: pd.DataFrame
    kinds: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Average (predictors,) over genes, then slides, then folds, as in Table 1."""
        return self.cells.groupby(["fold", "sample"]).mean().groupby("fold").mean().mean().to_numpy()

    @property
    def genes(self) -> np.ndarray:
        """Average each gene (genes, predictors) over slides, then folds."""
        return self.cells.groupby(["fold", "gene"]).mean().groupby("gene").mean().to_numpy()

    def of(self, predictors: Sequence[str]) -> Block:
        """Return the block of some predictors, in their order."""
        kinds = self.kinds[self.cells.columns.get_indexer(predictors)]
        return Block(self.cells[list(predictors)], self.seeds[list(predictors)], kinds)


def mean_intervals(scores: pd.DataFrame, sets: Mapping[str, pd.Series], draws: int) -> pd.DataFrame:
    """Average every predictor's scores as in Table 1, with confidence intervals from bootstrap ``draws``.

    ``scores`` has a row per gene and prediction file with `COMPARED_COLUMNS`, and ``sets`` are as from
    `gene_sets.gene_sets`. Results keep the order of the rows.

    Returns
    -------
    DataFrame
        `INTERVAL_COLUMNS`. ``cohort`` is also "all cohorts", for their mean, where a protocol has several and each has
        the gene set and the predictor. n_genes: genes that are in the set on any slide; n_units: slides (`paper`) or
        patients (`patient`); seed_sd: standard deviation over seeds, NaN with one. Limits are cut at -1 and 1.

    Raises
    ------
    InputError
        A predictor lacks scores that others of the cohort and protocol have.
    """
    parts = []
    for keys, blocks in score_blocks(scores, sets):
        half = half_widths([deviations(block.cells, draws) for block in blocks])
        mean = np.mean([block.means for block in blocks], axis=0)
        facts = {"predictor": blocks[0].cells.columns, "kind": blocks[0].kinds, **_counts(blocks)}
        part = pd.DataFrame({**_interval("mean", mean, half, 1.0), "seed_sd": _seed_sd(blocks, np.arange(len(mean)))})
        parts.append(part.assign(**keys, **facts))
    return _joined(parts, INTERVAL_COLUMNS)


def compare_predictors(scores: pd.DataFrame, sets: Mapping[str, pd.Series], draws: int) -> pd.DataFrame:
    """Compare all pairs of methods, and methods with controls other than `constants.BOUNDS`.

    Parameters and errors are those of `mean_intervals`.

    Returns
    -------
    DataFrame
        `COMPARISON_COLUMNS`. difference: of the means, first minus second; ci_low, ci_high: its interval, with the same
        draws for both predictors, cut at -2 and 2; seed_sd: its standard deviation over seeds, NaN where both run once.

        statistic, p, effect_size: `signed_ranks` over genes, each averaged over seeds, slides and folds (for all
        cohorts: the genes of each). p_holm: Holm's correction (Scand J Stat 6:65, 1979) over all pairs of one cohort,
        protocol and gene set.
    """
    parts = []
    for keys, blocks in score_blocks(scores, sets):
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
    """Test each column of ``differences`` (genes, pairs) by Wilcoxon's signed ranks, two-sided.

    Zeros are left out; a column of zeros has p = 1 and effect 0.

    Returns
    -------
    dict
        ``statistic`` (the smaller rank sum), ``p`` (exact for up to `LARGEST_EXACT` genes) and ``effect_size``, the
        matched-pairs rank-biserial correlation (Kerby, Compr Psychol 3:11.IT.3.1, 2014), each (pairs,).
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
    """Correct the p-values of one family by Holm's step-down method."""
    from statsmodels.stats.multitest import multipletests  # slow to import, and not needed for intervals

    return multipletests(p, method="holm")[1]


def write_comparisons(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write intervals or comparisons as CSV with six significant digits, atomically."""
    write_table(table, path, float_format="%.6g")


def score_blocks(scores: pd.DataFrame, sets: Mapping[str, pd.Series]) -> Iterator[tuple[dict[str, str], list[Block]]]:
    """Yield the blocks of each cohort, protocol and gene set, then of all cohorts."""
    order = scores[["cohort", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
    blocks = {key: {} for key in order}  # (cohort, protocol) -> gene set -> block
    predictors = scores.groupby(["cohort", "protocol"])["predictor"].unique()
    for name, mask in sets.items():
        for key, rows in scores[mask].groupby(["cohort", "protocol"]):
            blocks[key][name] = _block(rows, predictors[key])
    for key, of_sets in blocks.items():
        for name in filter(of_sets.get, sets):
            yield dict(zip(GROUP_KEYS, (*key, name), strict=True)), [of_sets[name]]
    for protocol in dict.fromkeys(protocol for _, protocol in blocks):
        cohorts = [of_sets for (_, of), of_sets in blocks.items() if of == protocol]
        for name in sets:
            if len(cohorts) > 1 and all(name in of_sets for of_sets in cohorts):
                keys = dict(zip(GROUP_KEYS, (ALL_COHORTS, protocol, name), strict=True))
                of_cohorts = [of_sets[name] for of_sets in cohorts]
                common = set.intersection(*(set(block.cells.columns) for block in of_cohorts))
                shared = [one for one in of_cohorts[0].cells.columns if one in common]
                if shared:
                    yield keys, [block.of(shared) for block in of_cohorts]


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
    first, second = np.triu_indices(len(names), k=1)
    control, bound = kinds == CONTROL, np.isin(names, BOUNDS)
    compared = ~(control[first] & control[second]) & ~bound[first] & ~bound[second]
    first, second = first[compared], second[compared]
    swap = control[first]
    return np.where(swap, second, first), np.where(swap, first, second)


def _interval(name: str, values: np.ndarray, half: np.ndarray, limit: float) -> dict[str, np.ndarray]:
    low, high = np.clip([values - half, values + half], -limit, limit)
    return {name: values, "ci_low": low, "ci_high": high}


def _counts(blocks: Sequence[Block]) -> dict[str, int]:
    levels = {"n_genes": "gene", "n_units": "fold"}
    return {n: sum(block.cells.index.unique(level).size for block in blocks) for n, level in levels.items()}


def _seed_sd(blocks: Sequence[Block], first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """Compute the standard deviation over seeds of means or differences, NaN for a single seed."""
    seeds = sum(block.seeds.fillna(block.seeds.mean()) for block in blocks) / len(blocks)  # (seeds, predictors)
    repeated = (blocks[0].seeds.notna().sum() > 1).to_numpy()
    values, varies = seeds.to_numpy()[:, first], repeated[first]
    if second is not None:
        values, varies = values - seeds.to_numpy()[:, second], varies | repeated[second]
    return np.where(varies, pd.DataFrame(values).std(ddof=1), np.nan)


def _joined(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
