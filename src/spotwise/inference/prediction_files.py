"""Prediction files, with the predicted and observed expression of one slide by one predictor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from spotwise.constants import OBSERVED, PROVENANCE, RUN_FIELDS, SPATIAL, TEST
from spotwise.data.folds import Fold
from spotwise.errors import InputError
from spotwise.inference.damaged_files import unreadable
from spotwise.inference.slide_anndata import SlideView
from spotwise.runtime.hdf5 import write_anndata

# var of a prediction; the reference statistics rank the genes and come from the slides that the protocol allows
GENE_FIELDS = ("is_hvg", "is_marker", "is_measured", "reference_mean", "reference_var")

# uns["spotwise"] of a prediction: the meaning of a value in X and layers["observed"]
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


def write_prediction(
    path: str | Path,
    fold: Fold,
    sample: str,
    predicted: np.ndarray,
    provenance: dict[str, object],
    view: SlideView | None = None,
) -> None:
    """Write a prediction ``.h5ad`` of one test slide.

    ``predicted`` (N, G) is log-normalised expression of the slide's spots in the order of ``fold``. ``provenance``
    holds the fields of `constants.RUN_FIELDS` that ``fold`` and ``sample`` do not give, such as predictor and seed.
    ``view`` is the picture to lay under the spots, by default a white one.
    """
    rows = fold.rows(TEST, sample=sample)
    if predicted.shape != (len(rows), len(fold.genes)):
        raise ValueError(f"{predicted.shape} predicted for {len(rows)} spots of {sample} and {len(fold.genes)} genes")
    of_fold = {"cohort": fold.cohort, "protocol": fold.protocol, "fold": fold.fold}
    content = anndata.AnnData(
        X=predicted.astype(np.float32),
        obs=pd.DataFrame(
            fold.array[rows], index=pd.Index(fold.barcode[rows], name="barcode"), columns=["array_row", "array_col"]
        ),
        var=evaluated_genes(fold, sample),
        obsm={SPATIAL: fold.spatial[rows]},
        layers={OBSERVED: fold.expression[rows]},
        uns={PROVENANCE: {**of_fold, "sample": sample, **provenance, **VALUES}},
    )
    (view or SlideView()).under(content, sample)
    write_anndata(path, content, "gzip")


def read_prediction(path: str | os.PathLike) -> anndata.AnnData:
    """Read one prediction file and check it against its contract.

    Returns
    -------
    AnnData
        X predicted and layers["observed"] measured log-normalised expression (spots x panel, dense float32),
        obsm["spatial"] (N, 2) spot centres in level-0 pixels, var with `GENE_FIELDS`, uns["spotwise"] with
        `constants.RUN_FIELDS` as plain Python values.

    Raises
    ------
    InputError
        The file is missing or damaged, a part is missing, or values that must be finite are not.
    """
    try:
        prediction = anndata.read_h5ad(path)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        raise unreadable(path, "a prediction") from None
    check_prediction(prediction, path)
    return prediction


def check_prediction(prediction: anndata.AnnData, source: object) -> None:
    """Check a prediction against the contract in `read_prediction`, with ``source`` named in errors.

    Raises
    ------
    InputError
        A part is missing, or values that must be finite are not.
    """
    run = prediction.uns.get(PROVENANCE, {})
    for place, required, present in (
        (f"uns[{PROVENANCE!r}]", RUN_FIELDS, run),
        ("var", GENE_FIELDS, prediction.var.columns),
        ("layers", (OBSERVED,), prediction.layers),
        ("obsm", (SPATIAL,), prediction.obsm),
    ):
        if missing := [name for name in required if name not in present]:
            raise InputError(source, place, sorted(present), "also " + ", ".join(missing))
    prediction.uns[PROVENANCE] = {**run, **{name: kind(run[name]) for name, kind in RUN_FIELDS.items()}}

    measured = prediction.var["is_measured"].to_numpy(bool)
    for place, values in (("X", prediction.X), (f"layers[{OBSERVED!r}]", prediction.layers[OBSERVED][:, measured])):
        if not np.isfinite(values).all():
            raise InputError(source, place, "values that are not finite", "log-normalised expression")
    for field in ("reference_mean", "reference_var"):
        if not np.isfinite(prediction.var[field].to_numpy(float)[measured]).all():
            raise InputError(source, f"var[{field!r}]", "values that are not finite", "a number for each measured gene")


def read_slide(paths: Mapping[str, str | os.PathLike]) -> dict[str, anndata.AnnData]:
    """Read several predictors' files of one slide, with spots and genes in the order of the first.

    Raises
    ------
    InputError
        The files differ in slide, spots or genes.
    """
    slide: dict[str, anndata.AnnData] = {}
    for predictor, path in paths.items():
        prediction = read_prediction(path)
        first = next(iter(slide.values()), prediction)
        found, expected = prediction.uns[PROVENANCE]["sample"], first.uns[PROVENANCE]["sample"]
        if found != expected:
            raise InputError(path, "sample", found, f"{expected}, the slide of the other predictions")
        axes = {"spots": (prediction.obs_names, first.obs_names), "genes": (prediction.var_names, first.var_names)}
        for axis, (names, others) in axes.items():
            if set(names) != set(others):
                expected = f"the {len(others)} {axis} of the other predictions"
                raise InputError(path, axis, f"{len(names)} {axis}", expected)
        same = all(names.equals(others) for names, others in axes.values())
        slide[predictor] = prediction if same else prediction[first.obs_names, first.var_names]
    return slide


def read_ceiling(path: str | Path, genes: Sequence[str]) -> np.ndarray:
    """Read the ceilings (G,) of ``genes`` from ``ceiling.tsv``, NaN for a gene that the slide does not measure."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False)  # a gene may be called NA
    return table.set_index("gene")["ceiling"].reindex(genes).to_numpy(np.float64)
