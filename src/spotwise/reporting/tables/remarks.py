"""Remarks on the numbers of one cohort and protocol, a sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from spotwise.constants import FELL_BACK
from spotwise.evaluation.gene_sets import MARKER
from spotwise.reporting.tables.layout import Cell

RANDOM = "†"  # at the name of what has random weights where pretrained ones were asked for


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


def name_cell(name: str, note: str) -> Cell:
    """Make the first cell of a row, with a mark that `notes` explains."""
    return Cell(name, after=RANDOM if FELL_BACK in note else "")


def notes(block: pd.DataFrame, names: str = "predictor") -> Iterator[str]:
    """Yield the notes that predictions carry, first the mark of those with random weights in place of others."""
    for note, rows in block[block["note"].ne("")].groupby("note", sort=False):
        yield f"{name_cell('', note).after}{', '.join(rows[names])}: {note}"


def heading(gene_set: str) -> str:
    """Format the column of a gene set as a heading, such as ``HVG top 150 (K 250)``."""
    return re.sub(r"_k(\d+)$", r" (K \1)", gene_set.replace("_top", " top "))
