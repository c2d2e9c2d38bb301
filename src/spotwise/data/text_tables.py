"""Tables that people typed: tab-separated text with one row per slide.

They are read with the standard library. pandas would add its import to every start of Snakemake, and an unclosed quote
would swallow the lines below it.
"""

from __future__ import annotations

import csv
from pathlib import Path

from spotwise.errors import InputError
from spotwise.runtime.input_files import known_content, unreadable

UTF_16 = "UTF-16 text"
# First bytes of what a spreadsheet program saves in the place of text
OTHER_FORMATS = (
    (b"PK\x03\x04", "an Excel or OpenDocument file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
)


def read_rows(path: Path, table: str, field: str, columns: str, alone: str = "") -> list[dict[str, str]]:
    """Read the rows below the header, without empty cells and without blanks around cells.

    Parameters
    ----------
    path
        Tab-separated text in UTF-8; lines that start with ``#`` are comments.
    table, field, columns
        What the file is, the setting that names it, and its first columns, for messages.
    alone
        Column that may be the only one.

    Raises
    ------
    InputError
        The file cannot be read, is no tab-separated text, or has no row, a column twice or rows of unequal length.
    """
    lines = _lines(path, table, field)
    parsed = [_cells(path, number, line) for number, line in enumerate(lines, start=1) if not line.startswith("#")]
    parsed = [cells for cells in parsed if any(cells)]
    if len(parsed) < 2:
        raise InputError(path, "rows", "none", "one row per slide under a header line")
    header, *rows = parsed
    if len(header) == 1 and header[0] != alone:
        between = next((sign for sign in ";,|" if sign in header[0]), None)
        found = f"columns separated by {between!r}" if between else repr(header[0])
        raise InputError(path, "header", found, f"columns separated by tabs: {columns}")
    for column in header:
        if header.count(column) > 1:
            raise InputError(path, "header", f"column {column!r} twice", "each column once")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(path, f"row {number}", "a different number of fields", "as many as the header has")
    return [{column: cell for column, cell in zip(header, row, strict=True) if cell} for row in rows]


def _lines(path: Path, table: str, field: str) -> list[str]:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise unreadable(path, field, error, table) from None
    kind = next((kind for head, kind in OTHER_FORMATS if stored.startswith(head)), None)
    if kind is None and stored and (known := known_content(stored)):
        kind = known[0]
    if kind is None and b"\0" in stored:
        kind = UTF_16
    if kind is not None:
        raise InputError(path, field, kind, f"{table}: save it as tab-separated text in UTF-8")
    try:
        return stored.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", f"{table}, saved as UTF-8 text") from None


def _cells(path: Path, number: int, line: str) -> list[str]:
    """Return the cells of a line, read alone so that an open quote cannot swallow the lines below it."""
    try:
        return [cell.strip() for cells in csv.reader([line], delimiter="\t", strict=True) for cell in cells]
    except csv.Error as error:
        raise InputError(path, f"line {number}", str(error), "cells whose quotes are closed") from None
