"""Remarks on the numbers of one cohort and protocol, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from spotwise.evaluation.gene_sets import MARKER


def of_means(block: pd.DataFrame, sets: Sequence[str]) -> list[str]:
    """Collect the remarks on rows of `averages.mean_table` for some gene sets."""
    return [*small_banks(block), *short_lists(block, sets), *missing_markers(block, sets), *notes(block)]


def small_banks(block: pd.DataFrame) -> Iterator[str]:
    """Yield a remark on each predictor whose bank had fewer than K spots."""
    for row in block.itertuples():
        if row.k_used_min < row.k:
            yield f"{row.predictor}: bank smaller than K: whole bank used (k_used={row.k_used_min})"


def short_lists(block: pd.DataFrame, sets: Sequence[str]) -> Iterator[str]:
    """Yield a remark on each gene list longer than the number of genes that it may hold."""
    smallest = block["n_ranked"].min()
    for name in sets:
        size = re.search(r"_top(\d+)", name)
        if size and smallest < int(size[1]):
            yield f"{heading(name)}: {smallest:.4g} measured HVG, all of them taken"


def missing_markers(block: pd.DataFrame, sets: Sequence[str]) -> Iterator[str]:
    """Yield a remark on markers without a score, if markers are shown."""
    if MARKER in sets and (missing := "; ".join(names for names in block["markers_missing"].unique() if names)):
        found, listed = block["markers_found"].max(), block["markers_listed"].max()
        yield f"Markers: {found} of {listed} measured; missing: {missing}"


def notes(block: pd.DataFrame, names: str = "predictor") -> Iterator[str]:
    """Yield the notes that predictions carry."""
    for note, rows in block[block["note"].ne("")].groupby("note", sort=False):
        yield f"{', '.join(rows[names])}: {note}"


def heading(gene_set: str) -> str:
    """Format the column of a gene set as a heading, such as ``HVG top 150 (K 250)``."""
    return re.sub(r"_k(\d+)$", r" (K \1)", gene_set.replace("_top", " top "))
