"""Table of all measures beside the correlation, averaged per predictor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from spotwise.constants import CONTROL
from spotwise.evaluation.averages import ROW_KEYS, RUN_FACTS, SECTION, in_order, mean_columns, over_runs, run_facts
from spotwise.evaluation.gene_sets import gene_sets
from spotwise.evaluation.score_files import FILE_KEYS, SLIDE_METRICS, SLIDE_SCORE_COLUMNS, read_scores
from spotwise.reporting.tables import remarks
from spotwise.reporting.tables.layout import RANKS, Block, Column, Page, Row, mean_cell, ranked, run_counts

# column -> heading, and whether more (1) or less (-1) is better; 0 if the best lies in between
GENE_MEASURES = {
    "pcc": ("PCC", 1),
    "spearman": ("Spearman", 1),
    "rmse": ("RMSE", -1),
    "explained_variance": ("explained variance", 1),
    "ssim": ("SSIM", 1),
    "moran_predicted": ("Moran's I", 0),
    "moran_observed": ("of the truth", 0),
}
WHOLE_SLIDE_MEASURES = {
    "correlation_HEG": ("gene-gene, HEG", 1),
    "correlation_HVG": ("gene-gene, HVG", 1),
    "mean_slope": ("mean: slope", 0),
    "mean_intercept": ("intercept", 0),
    "var_slope": ("variance: slope", 0),
    "var_intercept": ("intercept", 0),
    "hvg_recovery": ("HVG found", 1),
    "hvg_chance": ("by chance", 0),
}
MEASURES = [*GENE_MEASURES, *SLIDE_METRICS]

GENE_LEGEND = (
    "Means over the HVG list, then slides, folds and seeds; ± is the standard deviation over folds. PCC and Spearman: "
    "correlation of values and of ranks, best 1. RMSE: error in units of log-expression, best 0. Explained variance: "
    "1 - Var(truth - prediction) / Var(truth), variances summed over the genes of the list; best 1, below 0 where the "
    "prediction adds variance. SSIM: similarity of the maps in level, contrast and pattern, best 1. Moran's I: "
    "similarity of adjacent spots, 0 for noise, about 1 for smooth maps; best is that of the truth, and more means "
    "that the prediction is smoother than the measurement. "
)
SLIDE_LEGEND = (
    "Means over slides, folds and seeds; ± is the standard deviation over folds. Gene-gene: similarity of the "
    "correlations between the genes of a list to those of the truth, best 1. Mean and variance: the line through the "
    "genes, predicted over observed; best slope 1, best intercept 0; a slope of the variance below 1 means that the "
    "prediction stays near its mean. HVG found: share of the slide's most variable genes among as many that vary most "
    "in the prediction, best 1, beside the share expected by chance. "
)


def read_measures(
    score_paths: Iterable[str | os.PathLike],
    slide_score_paths: Iterable[str | os.PathLike],
    top: int,
    cohorts: Sequence[str],
    predictors: Sequence[str],
) -> pd.DataFrame:
    """Make the `measure_table` of all files, in display order.

    The lists of paths are parallel. Files are averaged pair by pair to bound memory, so that all scores of a predictor
    in a cohort and protocol must lie in one pair. ``cohorts`` and ``predictors`` give the order.
    """
    parts = [
        measure_table(read_scores([of_genes]), read_scores([of_slides], SLIDE_SCORE_COLUMNS), top)
        for of_genes, of_slides in zip(score_paths, slide_score_paths, strict=True)
    ]
    return in_order(pd.concat(parts), cohorts, predictors)


def measure_table(scores: pd.DataFrame, slide_scores: pd.DataFrame, top: int) -> pd.DataFrame:
    """Average all measures into one row per cohort, protocol and predictor.

    ``scores`` has a row per gene and prediction file (`SCORE_COLUMNS`), ``slide_scores`` one per file
    (`SLIDE_SCORE_COLUMNS`). Measures of single genes are averaged over the ``top`` HVG.

    Returns
    -------
    DataFrame
        cohort, protocol, predictor, kind; `MEASURES`, the mean over genes, then slides, folds, seeds; their
        ``_sd_folds`` and ``_sd_seeds`` as in `averages.mean_table`; n_genes and n_ranked as there, n_slides, n_folds,
        n_seeds, k, k_used_min, note. ``explained_variance`` weights genes by the variance of their truth, as a gene
        with few counts on the slide has almost no variance to explain and would dominate the mean.
    """
    listed = scores[gene_sets(scores, [top])[f"HVG_top{top}"]]
    genes = listed.groupby(FILE_KEYS)
    measures = genes[list(GENE_MEASURES)].mean()
    weighted = listed.assign(explained=listed["explained_variance"] * listed["observed_var"]).groupby(FILE_KEYS)
    measures["explained_variance"] = weighted["explained"].sum() / weighted["observed_var"].sum()
    measures["n_genes"] = scores.groupby(FILE_KEYS)["is_measured"].sum()
    measures["n_ranked"] = scores["rank_var"].gt(0).groupby([scores[key] for key in FILE_KEYS]).sum()
    measures = measures.join(slide_scores.set_index(FILE_KEYS)[list(SLIDE_METRICS)]).reset_index()
    facts = run_facts(scores).assign(n_slides=scores.groupby(ROW_KEYS)["sample"].nunique())
    table = over_runs(measures, ROW_KEYS, [*MEASURES, "n_genes", "n_ranked"]).join(facts).reset_index()
    return table[[*ROW_KEYS, "kind", *mean_columns(MEASURES), "n_genes", "n_ranked", "n_slides", *RUN_FACTS, "note"]]


def pages(table: pd.DataFrame, top: int) -> list[Page]:
    """Lay out `measure_table` in two pages, for single genes and for whole slides."""
    return [
        _page("Measures of single genes", GENE_LEGEND, GENE_MEASURES, table, top),
        _page("Measures of whole slides", SLIDE_LEGEND, WHOLE_SLIDE_MEASURES, table, top),
    ]


def _page(title: str, legend: str, measures: Mapping[str, tuple[str, int]], table: pd.DataFrame, top: int) -> Page:
    columns = [Column("Predictor", numeric=False), *(Column(heading) for heading, _ in measures.values())]
    blocks = []
    for (cohort, protocol), block in table.groupby(SECTION, sort=False):
        signs = {name: sign for name, (_, sign) in measures.items() if sign}
        signed = block.assign(**{name: sign * block[name] for name, sign in signs.items()})
        rows = []
        for values, (_, marks) in zip(block.to_dict("records"), ranked(signed, signs), strict=True):
            cells = [mean_cell(values[name], values[f"{name}_sd_folds"], marks.get(name, "")) for name in measures]
            name = remarks.name_cell(values["predictor"], values["note"])
            rows.append(Row([name, *cells], values["kind"] == CONTROL))
        notes = [*remarks.small_banks(block), *remarks.short_lists(block, [f"HVG_top{top}"]), *remarks.notes(block)]
        blocks.append(Block(cohort, protocol, columns, rows, notes, run_counts(block)))
    return Page("measures", f"{title}, top {top}", (legend, *RANKS), blocks)
