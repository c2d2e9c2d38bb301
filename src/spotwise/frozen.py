"""Methods on frozen features: their embeddings joined to a fold's spots, their weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from spotwise.contracts import TEST
from spotwise.files import atomic, write_json
from spotwise.folds import Fold, read_fold
from spotwise.models import load, options


def features_of(fold: Fold, rows: np.ndarray, embeddings: Mapping[str, Path]) -> np.ndarray:
    """(n, D) float32 features of the spots at ``rows``, from the embedded patches of their slides."""
    parts = {}
    for sample in dict.fromkeys(fold.sample[rows]):
        with h5py.File(embeddings[sample]) as file:
            parts[sample] = file["embedding"][:]
    return np.stack([parts[fold.sample[row]][fold.patch[row]] for row in rows])


def pretrained(embedding: Path) -> bool:
    """Whether the encoder of an embedding file had its published weights."""
    with h5py.File(embedding) as file:
        return bool(file.attrs["pretrained"])


def fit(
    fold_path: Path,
    embeddings: Mapping[str, Path],
    method: str,
    method_options: Mapping[str, object],
    weights: Path,
    summary: Path,
) -> None:
    """Fit a frozen method on all training spots of a fold, those held out for validation included.

    Nothing is chosen on the validation spots: a frozen method chooses inside the training slides by itself.

    Parameters
    ----------
    fold_path, embeddings
        ``fold.h5``, and the embedded patches of the training slides by sample.
    method, method_options
        Registered class and its options.
    weights, summary
        Outputs: ``weights.safetensors`` and ``summary.json``.
    """
    fold = read_fold(fold_path)
    rows = fold.bank
    fitted, report = load(method)(options(method, method_options)).fit(
        features_of(fold, rows, embeddings), fold.expression[rows], fold.sample[rows], fold.spatial[rows]
    )
    with atomic(weights) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in fitted.items()}, temporary)
    write_json(
        summary,
        {
            "method": method,
            "method_options": dict(method_options),
            "cohort": fold.cohort,
            "protocol": fold.protocol,
            "fold": fold.fold,
            "spots": len(rows),
            "genes": len(fold.genes),
            **report,
        },
    )


def predict(fold: Fold, sample: str, embedding: Path, method: str, weights: Path) -> np.ndarray:
    """Predicted expression (N, G) float32 of a test slide."""
    rows = fold.rows(TEST, sample=sample)
    return load(method).predict(load_file(weights), features_of(fold, rows, {sample: embedding}))
