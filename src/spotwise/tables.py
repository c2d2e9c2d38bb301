"""Table 1: mean correlation per predictor, with its spread over folds and seeds."""

from __future__ import annotations

import os
import sys

import numpy as np
import pandas as pd

from spotwise.contracts import PAPER, PATIENT
from spotwise.files import atomic, write_text
from spotwise.metrics import CONTROL

PROTOCOL_TITLES = {
    PAPER: "`paper` protocol: one slide left out, genes ranked on the test slide",
    PATIENT: "`patient` protocol: one patient left out, genes ranked on the training slides",
}
LEGEND = (
    "Pearson correlation per gene across the spots of a test slide, averaged over the genes of the set, then slides, "
    "folds and seeds; ± is the standard deviation over folds. HEG and HVG: the measured panel genes with the highest "
    "mean and the highest variance; marker: the cohort's marker genes that were measured. Constant genes: mean number "
    "per slide, of the measured panel genes, whose prediction or truth does not vary; they score 0. Best method "
    "**bold**, second best <u>underlined</u>. In italics, not competing: controls, which see no image, and bounds "
    "made from the truth (NoiseCeiling: what a predictor of the true rates would reach; Oracle: the truth itself)."
)


def to_markdown(table: pd.DataFrame) -> str:
    """Lay out Table 1 for a reader: a section per cohort and protocol, ranks marked, remarks below.

    Parameters
    ----------
    table
        As returned by `averages.mean_table`.

    Returns
    -------
    str
        Markdown, ending in a newline.
    """
    sets = _sets_of(table)
    lines = ["# Table 1: gene expression predicted from H&E", "", LEGEND, ""]
    for cohort, rows in table.groupby("cohort", sort=False):
        lines += [f"## {cohort}", ""]
        for protocol, block in rows.groupby("protocol", sort=False):
            lines += [f"### {PROTOCOL_TITLES.get(protocol, f'`{protocol}` protocol')}", ""]
            lines += _markdown_block(block, sets)
            lines += ["", *(f"* {remark}" for remark in remarks(block)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_block(block: pd.DataFrame, sets: list[str]) -> list[str]:
    headings = ["Predictor", *map(_heading, sets), "constant genes"]
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    marks = {name: _ranks(block, name) for name in sets}
    for row, control in zip(block.index, block["kind"].eq(CONTROL), strict=True):
        name = f"*{block.at[row, 'predictor']}*" if control else block.at[row, "predictor"]
        cells = [_cell(block.loc[row], column, marks[column].get(row)) for column in sets]
        constant = f"{block.at[row, 'n_constant']:.4g} of {block.at[row, 'n_genes']:.4g}"
        lines.append("| " + " | ".join([name, *cells, constant]) + " |")
    return lines


def _sets_of(table: pd.DataFrame) -> list[str]:
    return [column.removesuffix("_sd_folds") for column in table if column.endswith("_sd_folds")]


def _heading(column: str) -> str:
    return column.replace("_top", " top ")


def _ranks(block: pd.DataFrame, column: str) -> dict[int, int]:
    """Row -> 1 for the best method, 2 for the second best; methods level as printed share a place."""
    values = block.loc[block["kind"].ne(CONTROL), column].dropna().round(3)
    best = sorted(values.unique(), reverse=True)[:2]
    return {row: best.index(value) + 1 for row, value in values.items() if value in best}


def _cell(row: pd.Series, column: str, rank: int | None) -> str:
    if np.isnan(row[column]):
        return "–"
    mean = f"{round(row[column], 3) + 0.0:.3f}"  # no minus at a rounded zero
    mean = {1: f"**{mean}**", 2: f"<u>{mean}</u>"}.get(rank, mean)
    spread = row[f"{column}_sd_folds"]
    return mean if np.isnan(spread) else f"{mean} ± {spread:.3f}"


def remarks(block: pd.DataFrame) -> list[str]:
    """What a reader of one cohort and protocol has to know beside the numbers, one sentence each."""
    lines = []
    for row in block.itertuples():
        if row.k_used_min < row.k:
            lines.append(f"{row.predictor}: bank smaller than K: whole bank used (k_used={row.k_used_min})")
    smallest = block["n_genes"].min()
    for column in _sets_of(block):
        size = column.partition("_top")[2]
        if size and smallest < int(size):
            lines.append(f"{_heading(column)}: {smallest:.4g} measured panel genes, all of them taken")
    found, listed = block["markers_found"].max(), block["markers_listed"].max()
    if missing := "; ".join(names for names in block["markers_missing"].unique() if names):
        lines.append(f"Markers: {found} of {listed} measured; missing: {missing}")
    for note, rows in block[block["note"].ne("")].groupby("note", sort=False):
        lines.append(f"{', '.join(rows['predictor'])}: {note}")
    return [*lines, f"{plural(block['n_folds'].max(), 'fold')}, {plural(block['n_seeds'].max(), 'seed')}"]


def plural(n: int, noun: str) -> str:
    """Write a number with its noun: ``1 fold``, ``4 folds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def console(table: pd.DataFrame) -> str:
    """Lay out Table 1 for a terminal: one line per predictor, ``*`` at the best method, controls in brackets."""
    sets = _sets_of(table)
    width = 2 + max(map(len, table["predictor"]), default=0)
    lines = []
    for (cohort, protocol), block in table.groupby(["cohort", "protocol"], sort=False):
        title = f"{cohort}, {protocol} protocol (mean PCC ± sd over {plural(block['n_folds'].max(), 'fold')})"
        lines += [title, " " * (width + 2) + "".join(f"{_heading(name):>17}" for name in sets)]
        marks = {name: _ranks(block, name) for name in sets}
        for row, control in zip(block.index, block["kind"].eq(CONTROL), strict=True):
            name = f"({block.at[row, 'predictor']})" if control else block.at[row, "predictor"]
            cells = [_cell(block.loc[row], column, None) + " *"[marks[column].get(row) == 1] for column in sets]
            lines.append(f"  {name:<{width}}" + "".join(f"{cell:>17}" for cell in cells))
        lines += [*(f"  {remark}" for remark in remarks(block)[:-1]), ""]
    return "\n".join(lines).rstrip() + "\n"


def write_table(table: pd.DataFrame, csv: str | os.PathLike, markdown: str | os.PathLike) -> None:
    """Write Table 1 as CSV (six decimals, empty cells for NaN) and as Markdown, atomically."""
    with atomic(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    write_text(markdown, to_markdown(table))


def read_table(csv: str | os.PathLike) -> pd.DataFrame:
    """Read what `write_table` wrote."""
    texts = dict.fromkeys(("note", "markers_missing"), str)
    return pd.read_csv(csv, dtype=texts).fillna(dict.fromkeys(texts, ""))


if __name__ == "__main__":
    print(console(read_table(sys.argv[1])), end="")
