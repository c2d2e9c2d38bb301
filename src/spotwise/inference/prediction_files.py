"""The prediction file: predicted and observed expression of one slide by one predictor."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from spotwise.constants import OBSERVED, PROVENANCE, SPATIAL, TEST
from spotwise.data.folds import Fold
from spotwise.runtime.hdf5 import write_anndata


def evaluated_genes(fold: Fold, sample: str) -> pd.DataFrame:
    """What decides the gene sets on a test slide: `metrics.GENE_FIELDS`, a row per gene of the panel."""
    mean, variance = fold.reference(sample)
    return pd.DataFrame(
        {
            "is_marker": fold.is_marker,
            "is_measured": ~np.isnan(fold.expression[fold.rows(TEST, sample=sample)]).any(axis=0),
            "reference_mean": mean,
            "reference_var": variance,
        },
        index=pd.Index(fold.genes, name="gene"),
    )


def write_prediction(
    path: str | Path, fold: Fold, sample: str, predicted: np.ndarray, provenance: dict[str, object]
) -> None:
    """Write a prediction ``.h5ad``.

    Parameters
    ----------
    path
        Where to.
    fold
        The fold, with the truth of its test slide.
    sample
        The test slide.
    predicted
        (N, G) float32 log-normalised expression of its spots, in the order of ``fold``.
    provenance
        What made it: predictor, method, kind, k, k_used, seed, note, ...
    """
    rows = fold.rows(TEST, sample=sample)
    if predicted.shape != (len(rows), len(fold.genes)):
        raise ValueError(f"{predicted.shape} predicted for {len(rows)} spots of {sample} and {len(fold.genes)} genes")
    observed = fold.expression[rows]
    content = anndata.AnnData(
        X=predicted.astype(np.float32),
        obs=pd.DataFrame(index=pd.Index(fold.barcode[rows], name="barcode")),
        var=evaluated_genes(fold, sample),
        obsm={SPATIAL: fold.spatial[rows]},
        layers={OBSERVED: observed},
        uns={
            PROVENANCE: {
                "cohort": fold.cohort,
                "protocol": fold.protocol,
                "fold": fold.fold,
                "sample": sample,
                **provenance,
            }
        },
    )
    write_anndata(path, content, "gzip")
