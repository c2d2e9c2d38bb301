"""The tables of the paper, made of averaged scores: contents as CSV, laid out as Markdown, LaTeX and for a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from spotwise.errors import InputError, one_of
from spotwise.files import atomic, write_text
from spotwise.tables import genes, means
from spotwise.tables.layout import Page, latex, markdown

# by file name
PAGES: Mapping[str, Callable[[pd.DataFrame], Page]] = {
    "table1": means.page1,
    "table2": means.page2,
    "table3": genes.page3,
    "table4": means.page4,
    "table5": means.page5,
    "markers": genes.markers_page,
}
# columns that hold text, be they empty or made of digits
TEXTS = (
    *("cohort", "protocol", "method", "predictor", "kind", "gene", "encoder", *means.DESCRIBED, "other"),
    *("markers_missing", "note", "reason"),
)


def write_table(table: pd.DataFrame, csv: str | os.PathLike) -> None:
    """Write a table as CSV (six decimals, empty cells for NaN), and as ``.md`` and ``.tex`` beside it, atomically."""
    csv = Path(csv)
    with atomic(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    page = read_page(csv)
    write_text(csv.with_suffix(".md"), markdown(page))
    write_text(csv.with_suffix(".tex"), latex(page))


def read_table(csv: str | os.PathLike) -> pd.DataFrame:
    """Read what `write_table` wrote."""
    columns = pd.read_csv(csv, nrows=0).columns
    texts = [column for column in columns if column in TEXTS or column.startswith("predictor_")]
    table = pd.read_csv(csv, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(texts, ""))


def read_page(csv: str | os.PathLike) -> Page:
    """Read a table for laying it out.

    Raises
    ------
    InputError
        The file is not named as in `PAGES`.
    """
    name = Path(csv).stem
    if name not in PAGES:
        raise InputError(csv, "name", repr(name), one_of(PAGES, name))
    return PAGES[name](read_table(csv))
