"""Labels of a slide's spots, such as a pathologist's: what found domains are compared with, never what finds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from spotwise.constants import BARCODES
from spotwise.errors import InputError, one_of

UNLABELLED = ""
NO_LABEL = {"", "nan", "NaN", "NA", "None", "<NA>"}


def read_labels(
    path: str | Path, column: str, barcodes: Sequence[str], known: Collection[str], unknown: Collection[str] = ()
) -> np.ndarray:
    """The label of every spot of a slide.

    Parameters
    ----------
    path
        An ``.h5ad`` whose ``obs`` has ``column``, or a CSV with the columns ``barcode`` and ``column``.
    column
        Its name.
    barcodes
        (N,) spots to label.
    known
        All barcodes that the file may hold: the slide's spots, those that cleaning dropped included.
    unknown
        Values of the column that name no class, as ``undetermined`` does.

    Returns
    -------
    ndarray
        (N,) str as object; `UNLABELLED` for a spot that the file does not label: it is absent, empty, NaN or
        ``unknown`` there.

    Raises
    ------
    InputError
        For a file or column that is not there, a barcode that is empty, given twice or of no spot of the slide, and
        where the spots have no label at all or all the same.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "labels", "no such file", "an .h5ad, or a CSV with a column barcode")
    labels = _from_h5ad(path, column) if path.suffix == ".h5ad" else _from_csv(path, column)
    if labels.index.has_duplicates:
        twice = labels.index[labels.index.duplicated()][0]
        raise InputError(path, BARCODES, f"{twice!r} more than once", "each spot once")
    if strangers := sorted(set(labels.index) - set(known)):
        found = f"{len(strangers)} of {len(labels)} barcodes of no spot of the slide, e.g. {strangers[0]!r}"
        raise InputError(path, BARCODES, found, f"barcodes such as {next(iter(known))!r}")
    labels = labels.mask(labels.isin(unknown), UNLABELLED)
    of_spots = labels.reindex(barcodes, fill_value=UNLABELLED).to_numpy(dtype=object)
    classes = sorted(set(of_spots) - {UNLABELLED})
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "no label"
        raise InputError(path, column, f"{found} on the slide's spots", "at least two classes")
    return of_spots


def n_classes(labels: np.ndarray) -> int:
    """How many classes the labelled ones of the spots (N,) have."""
    return len(set(labels) - {UNLABELLED})


def _from_h5ad(path: Path, column: str) -> pd.Series:
    from anndata.io import read_elem  # a second to import: not where the labels are in a CSV

    try:
        with h5py.File(path) as file:
            obs = read_elem(file["obs"])
    except (OSError, KeyError) as error:
        raise InputError(path, "obs", f"nothing that can be read ({error})", "an .h5ad with a table of spots") from None
    _require(path, column, obs.columns)
    return _cleaned(obs[column].astype(object), obs.index)


def _from_csv(path: Path, column: str) -> pd.Series:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(path, "labels", f"contents that cannot be read ({reason})", "a CSV in UTF-8") from None
    for name in (BARCODES, column):
        _require(path, name, table.columns)
    empty = table[BARCODES].str.strip() == ""
    if empty.any():
        raise InputError(path, BARCODES, f"nothing in row {int(np.argmax(empty)) + 1}", "a barcode in every row")
    return _cleaned(table[column], table[BARCODES].str.strip())


def _require(path: Path, column: str, columns: pd.Index) -> None:
    if column not in columns:
        raise InputError(path, "column", repr(column), one_of(columns, column))


def _cleaned(values: pd.Series, barcodes: pd.Index | pd.Series) -> pd.Series:
    """Labels as text by barcode (text, too); one way to write that there is none."""
    labels = [UNLABELLED if pd.isna(value) else str(value).strip() for value in values]
    labels = [UNLABELLED if label in NO_LABEL else label for label in labels]
    return pd.Series(labels, index=[str(barcode) for barcode in barcodes], dtype=object)
