"""The tables of the paper, made of averaged scores: contents as CSV, laid out as Markdown, LaTeX and for a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from spotwise.errors import InputError, one_of
from spotwise.reporting.tables import gene_tables, mean_tables
from spotwise.reporting.tables.layout import Page, latex, markdown
from spotwise.runtime import files

# by file name
PAGES: Mapping[str, Callable[[pd.DataFrame], Page]] = {
    "table1": mean_tables.page1,
    "table2": mean_tables.page2,
    "table3": gene_tables.page3,
    "table4": mean_tables.page4,
    "table5": mean_tables.page5,
    "markers": gene_tables.markers_page,
}
# columns that hold text, be they empty or made of digits
TEXTS = (
    *("cohort", "protocol", "method", "predictor", "kind", "gene", "encoder", *mean_tables.DESCRIBED, "other"),
    *("markers_missing", "note", "reason"),
)


def write_table(table: pd.DataFrame, csv: str | os.PathLike) -> None:
    """Write a table as CSV (six decimals, empty cells for NaN), and as ``.md`` and ``.tex`` beside it, atomically."""
    csv = Path(csv)
    files.write_table(table, csv, float_format="%.6f")
    page = read_page(csv)
    files.write_text(csv.with_suffix(".md"), markdown(page))
    files.write_text(csv.with_suffix(".tex"), latex(page))


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
