"""What was found in a slide, read back for its figures and its page."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd

from spotwise.constants import DROPPED
from spotwise.structure.labels import UNLABELLED, read_labels


def spot_labels(
    lognorm_h5ad: str | os.PathLike, labels: str | os.PathLike, column: str, unknown: Sequence[str] = ()
) -> pd.Series:
    """Labels of a slide's spots by barcode, NaN where there is none.

    Parameters
    ----------
    lognorm_h5ad
        The slide's spots.
    labels, column, unknown
        As for `labels.read_labels`, which judges them.
    """
    import anndata  # half a second: not for those who only read tables

    content = anndata.read_h5ad(lognorm_h5ad, backed="r")
    barcodes, dropped = content.obs_names, content.uns[DROPPED]
    content.file.close()
    found = pd.Series(read_labels(labels, column, barcodes, {*barcodes, *dropped}, unknown), index=barcodes)
    return found.mask(found == UNLABELLED)


def labels_of_slides(
    slides: Sequence[str],
    lognorms: Sequence[str | os.PathLike],
    labels: Sequence[str | os.PathLike],
    column: str,
    unknown: Sequence[str],
) -> dict[str, pd.Series]:
    """Slide -> `spot_labels`; empty where there are no files with labels."""
    files = zip(slides, lognorms, labels, strict=True) if labels else ()
    return {slide: spot_labels(lognorm, path, column, unknown) for slide, lognorm, path in files}


def spot_expression(lognorm_h5ad: str | os.PathLike, barcodes: Sequence[str], genes: Sequence[str]) -> pd.DataFrame:
    """(N, at most G) log-normalised expression of some spots by barcode; genes that the slide lacks are left out."""
    import anndata

    content = anndata.read_h5ad(lognorm_h5ad)
    return content[list(barcodes), [gene for gene in genes if gene in content.var_names]].to_df()


def read_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read one of the tables of a slide; a gene or barcode called NA or null keeps its name."""
    text = dict.fromkeys(("cohort", "sample", "space", "clustering", "barcode", "gene"), str)
    header = pd.read_csv(path, sep="\t", nrows=0).columns
    numbers = [name for name in header if name not in text]
    return pd.read_csv(
        path, sep="\t", dtype=text, keep_default_na=False, na_values={name: ["", "nan"] for name in numbers}
    )
