"""Labels of a slide's spots, such as a pathologist's."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from spotwise.constants import BARCODES, DROPPED
from spotwise.errors import InputError, first_line, one_of

UNLABELLED = ""
NO_LABEL = {"", "nan", "NaN", "NA", "None", "<NA>"}


def read_labels(
    path: str | Path, column: str, barcodes: Sequence[str], known: Collection[str], unknown: Collection[str] = ()
) -> np.ndarray:
    """Read the label of every spot of a slide.

    Parameters
    ----------
    path, column
        An ``.h5ad`` whose ``obs`` has ``column``, or a CSV with the columns ``barcode`` and ``column``.
    barcodes
        (N,) spots to label.
    known
        All barcodes that the file may hold: the slide's spots, including those that cleaning dropped.
    unknown
        Values of the column that name no class, such as ``undetermined``.

    Returns
    -------
    ndarray
        (N,) str as object; `UNLABELLED` for a spot that is absent, empty, NaN or ``unknown`` in the file.

    Raises
    ------
    InputError
        The file or column is missing; a barcode is empty, repeated or of no spot of the slide; or the spots have fewer
        than two classes.
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


def labels_of_slides(
    slides: Sequence[str],
    lognorms: Sequence[str | os.PathLike],
    labels: Sequence[str | os.PathLike],
    column: str,
    unknown: Sequence[str],
) -> dict[str, pd.Series]:
    """Read the labels of each slide's spots by barcode, NaN without a label, none without files of labels."""
    import anndata  # half a second, and not needed to read labels of known spots

    found = {}
    for slide, lognorm, path in zip(slides, lognorms, labels, strict=True) if labels else ():
        content = anndata.read_h5ad(lognorm, backed="r")
        barcodes, dropped = content.obs_names, content.uns[DROPPED]
        content.file.close()
        of_slide = pd.Series(read_labels(path, column, barcodes, {*barcodes, *dropped}, unknown), index=barcodes)
        found[slide] = of_slide.mask(of_slide == UNLABELLED)
    return found


def n_classes(labels: np.ndarray) -> int:
    """Count the classes of the labelled spots in ``labels`` (N,)."""
    return len(set(labels) - {UNLABELLED})


def _from_h5ad(path: Path, column: str) -> pd.Series:
    from anndata.io import read_elem  # a second to import, and not needed for a CSV

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
        reason = first_line(error)
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
    """Convert labels and barcodes to text, and every missing label to `UNLABELLED`."""
    labels = ["" if pd.isna(value) else str(value).strip() for value in values]
    labels = [UNLABELLED if label in NO_LABEL else label for label in labels]
    return pd.Series(labels, index=list(map(str, barcodes)), dtype=object)
