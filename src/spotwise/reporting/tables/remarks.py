"""What a reader has to know beside the numbers of one cohort and protocol, one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from spotwise.evaluation.gene_sets import MARKER


def of_means(block: pd.DataFrame, sets: Sequence[str]) -> list[str]:
    """Remarks on rows of `averages.mean_table` of one cohort and protocol, shown with the gene sets ``sets``."""
    return [*small_banks(block), *short_lists(block, sets), *missing_markers(block, sets), *notes(block)]


def small_banks(block: pd.DataFrame) -> Iterator[str]:
    """Predictors (with k and k_used_min) that found fewer spots than they wanted to average."""
    for row in block.itertuples():
        if row.k_used_min < row.k:
            yield f"{row.predictor}: bank smaller than K: whole bank used (k_used={row.k_used_min})"


def short_lists(block: pd.DataFrame, sets: Sequence[str]) -> Iterator[str]:
    """Gene sets that ask for more genes than there are (n_genes)."""
    smallest = block["n_genes"].min()
    for name in sets:
        size = re.search(r"_top(\d+)", name)
        if size and smallest < int(size[1]):
            yield f"{heading(name)}: {smallest:.4g} measured panel genes, all of them taken"


def missing_markers(block: pd.DataFrame, sets: Sequence[str]) -> Iterator[str]:
    """Markers that are averaged nowhere, where markers are shown."""
    if MARKER in sets and (missing := "; ".join(names for names in block["markers_missing"].unique() if names)):
        found, listed = block["markers_found"].max(), block["markers_listed"].max()
        yield f"Markers: {found} of {listed} measured; missing: {missing}"


def notes(block: pd.DataFrame, names: str = "predictor") -> Iterator[str]:
    """What the predictions themselves say of how they were made."""
    for note, rows in block[block["note"].ne("")].groupby("note", sort=False):
        yield f"{', '.join(rows[names])}: {note}"


def heading(gene_set: str) -> str:
    """A gene set's column as a heading: ``HEG top 50``, ``HVG top 150 (K 250)``."""
    return re.sub(r"_k(\d+)$", r" (K \1)", gene_set.replace("_top", " top "))
