"""Gene sets of scores, namely highly expressed (HEG), highly variable (HVG) and marker genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

MARKER = "marker"


def gene_ranks(var: pd.DataFrame) -> pd.DataFrame:
    """Rank a panel's measured HVG by the reference mean (HEG) and variance (HVG).

    ``var`` holds `observed_files.GENE_FIELDS`. Under the `paper` protocol the reference is the test slide's own
    truth, under `patient` the training slides; never the prediction. rank_mean and rank_var are 1 for the highest, ties
    by gene name. They are 0 for a gene that is not measured, and for a marker that no slide chose as highly variable:
    the released code knows no such genes.
    """
    ranked = np.flatnonzero(var["is_measured"].to_numpy(bool) & var["is_hvg"].to_numpy(bool))
    names = var.index.to_numpy(str)[ranked]
    ranks = pd.DataFrame(0, index=var.index, columns=["rank_mean", "rank_var"])
    for rank, reference in (("rank_mean", "reference_mean"), ("rank_var", "reference_var")):
        order = np.lexsort((names, -var[reference].to_numpy(float)[ranked]))
        ranks.iloc[ranked[order], ranks.columns.get_loc(rank)] = np.arange(1, len(order) + 1)
    return ranks


def gene_set_columns(top: Sequence[int] = (50,)) -> list[str]:
    """Name the gene sets, HEG and HVG for each size, then markers."""
    return [f"{kind}_top{n}" for n in top for kind in ("HEG", "HVG")] + [MARKER]


def gene_sets(scores: pd.DataFrame, top: Sequence[int] = (50,)) -> dict[str, pd.Series]:
    """Mask the rows of a score table that belong to each gene set, by `gene_set_columns`.

    A panel with fewer than ``top`` ranked genes gives all of them. No mask depends on a prediction.
    """
    sets = {}
    for n in top:
        sets[f"HEG_top{n}"] = scores["rank_mean"].between(1, n)
        sets[f"HVG_top{n}"] = scores["rank_var"].between(1, n)
    sets[MARKER] = scores["is_marker"] & scores["is_measured"]
    return sets


def scored_genes(var: pd.DataFrame, top: int) -> np.ndarray:
    """Mask the genes of a slide that Table 1 scores: lists of ``top`` genes, and measured markers.

    ``var`` holds `observed_files.GENE_FIELDS`, a row per gene of the panel.
    """
    return np.logical_or.reduce(list(gene_sets(var.join(gene_ranks(var)), [top]).values()))
