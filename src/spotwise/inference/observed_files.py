"""Files with what was measured on a test slide, which all predictions of the slide share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from spotwise.constants import PROVENANCE, SPATIAL, TEST
from spotwise.data.folds import Fold, read_fold
from spotwise.errors import InputError
from spotwise.inference.damaged_files import unreadable
from spotwise.inference.slide_anndata import SlideView
from spotwise.runtime.hdf5 import write_anndata

# var of a test slide; the reference statistics rank the genes and come from the slides that the protocol allows
GENE_FIELDS = ("is_hvg", "is_marker", "is_measured", "reference_mean", "reference_var")

# uns["spotwise"]: the meaning of a value in X, predicted or measured
VALUES = {
    "units": "log(1 + x), x: counts of a spot scaled to one total for all spots of its slide",
    "transform": "log1p",
}


def evaluated_genes(fold: Fold, sample: str) -> pd.DataFrame:
    """Describe the genes of a panel for one test slide by `GENE_FIELDS`, a row per gene."""
    mean, variance = fold.reference(sample)
    return pd.DataFrame(
        {
            "is_hvg": fold.is_hvg,
            "is_marker": fold.is_marker,
            "is_measured": ~np.isnan(fold.expression[fold.rows(TEST, sample=sample)]).any(axis=0),
            "reference_mean": mean,
            "reference_var": variance,
        },
        index=pd.Index(fold.genes, name="gene"),
    )


def slide_spots(fold: Fold, sample: str) -> dict[str, object]:
    """Return ``obs``, ``obsm`` and the identity in ``uns`` of a test slide, for AnnData."""
    rows = fold.rows(TEST, sample=sample)
    names = pd.Index(fold.barcode[rows], name="barcode")
    return {
        "obs": pd.DataFrame(fold.array[rows], index=names, columns=["array_row", "array_col"]),
        "obsm": {SPATIAL: fold.spatial[rows]},
        "uns": {PROVENANCE: {"cohort": fold.cohort, "protocol": fold.protocol, "fold": fold.fold, "sample": sample}},
    }


def write_observed(path: str | Path, fold: Fold, sample: str, view: SlideView | None = None) -> None:
    """Write the measured expression ``.h5ad`` of one test slide, with its genes and its picture.

    ``view`` is the picture to lay under the spots, by default a white one.
    """
    rows = fold.rows(TEST, sample=sample)
    content = anndata.AnnData(fold.expression[rows], var=evaluated_genes(fold, sample), **slide_spots(fold, sample))
    content.uns[PROVENANCE] |= VALUES
    (view or SlideView()).under(content, sample)
    write_anndata(path, content, "gzip")


def write_observed_slides(fold_path: Path, views: Mapping[str, SlideView], output: Path) -> None:
    """Write what was measured on every test slide of a fold, as ``{sample}.h5ad`` below ``output``.

    ``views`` are the slides' pictures, by sample.
    """
    fold = read_fold(fold_path)
    for sample in dict.fromkeys(fold.sample[fold.rows(TEST)]):
        write_observed(output / f"{sample}.h5ad", fold, sample, views[sample])


def read_observed(path: str | os.PathLike) -> anndata.AnnData:
    """Read the measured expression of a test slide and check it.

    Returns
    -------
    AnnData
        X (N, G) measured log-normalised expression, dense float32, NaN for a gene that the slide does not measure, var
        with `GENE_FIELDS`, obsm["spatial"] (N, 2) spot centres in level-0 pixels, and the slide's picture in
        uns["spatial"].

    Raises
    ------
    InputError
        The file is missing or damaged, a part is missing, or values that must be finite are not.
    """
    try:
        observed = anndata.read_h5ad(path)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        raise unreadable(path, "measured expression") from None
    check_genes(observed.var, path)
    measured = observed.var["is_measured"].to_numpy(bool)
    if not np.isfinite(observed.X[:, measured]).all():
        raise InputError(path, "X", "values that are not finite", "log-normalised expression")
    return observed


def check_genes(var: pd.DataFrame, source: object) -> None:
    """Check that genes are described by `GENE_FIELDS`, with ``source`` named in errors.

    Raises
    ------
    InputError
        A field is missing, or a reference of a measured gene is not finite.
    """
    if missing := [name for name in GENE_FIELDS if name not in var.columns]:
        raise InputError(source, "var", sorted(var.columns), "also " + ", ".join(missing))
    measured = var["is_measured"].to_numpy(bool)
    for field in ("reference_mean", "reference_var"):
        if not np.isfinite(var[field].to_numpy(float)[measured]).all():
            raise InputError(source, f"var[{field!r}]", "values that are not finite", "a number for each measured gene")
