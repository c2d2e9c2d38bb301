"""Tables of averaged scores as CSV, Markdown, LaTeX and terminal text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from spotwise.errors import InputError, one_of
from spotwise.reporting.tables import gene_tables, mean_tables
from spotwise.reporting.tables.layout import Page, latex, markdown
from spotwise.runtime import files

# file name -> layout
PAGES: Mapping[str, Callable[[pd.DataFrame], Page]] = {
    "table1": mean_tables.page1,
    "table2": mean_tables.page2,
    "table3": gene_tables.page3,
    "table4": mean_tables.page4,
    "table5": mean_tables.page5,
    "markers": gene_tables.markers_page,
}
# columns of text, which may be empty or look like numbers
TEXTS = (
    *("cohort", "protocol", "method", "predictor", "kind", "gene", "encoder", *mean_tables.DESCRIBED, "other"),
    *("markers_missing", "note", "reason"),
)


def write_table(table: pd.DataFrame, csv: str | os.PathLike) -> None:
    """Write a table as CSV with ``.md`` and ``.tex`` beside it, atomically.

    Numbers have six decimals, NaN is an empty cell.
    """
    csv = Path(csv)
    files.write_table(table, csv, float_format="%.6f")
    page = read_page(csv)
    files.write_text(csv.with_suffix(".md"), markdown(page))
    files.write_text(csv.with_suffix(".tex"), latex(page))


def read_table(csv: str | os.PathLike) -> pd.DataFrame:
    """Read a table that `write_table` has written."""
    columns = pd.read_csv(csv, nrows=0).columns
    texts = [column for column in columns if column in TEXTS or column.startswith("predictor_")]
    table = pd.read_csv(csv, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(texts, ""))


def read_page(csv: str | os.PathLike) -> Page:
    """Read a table and lay it out.

    Raises
    ------
    InputError
        If the file is missing, is not named as in `PAGES`, or does not hold the table of its name.
    """
    csv = Path(csv)
    if csv.stem not in PAGES:
        raise InputError(csv, "name", repr(csv.stem), one_of(PAGES, csv.stem))
    if not csv.is_file():
        raise InputError(csv, "file", "nothing", "a table that a run has written")
    try:
        table = read_table(csv)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(csv, "content", error, f"the columns of {csv.stem}") from None
    try:
        return PAGES[csv.stem](table)
    except (KeyError, AttributeError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else error.name
        raise InputError(csv, "content", f"no column {missing!r}", f"the columns of {csv.stem}") from None
    except (TypeError, ValueError):
        for column in table.columns.difference(TEXTS):
            if texts := [value for value in table[column] if isinstance(value, str)]:
                raise InputError(csv, column, repr(texts[0]), "numbers") from None
        raise
