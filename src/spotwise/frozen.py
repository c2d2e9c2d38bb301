"""Methods on frozen features: their embeddings joined to a fold's spots, their weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from spotwise.contracts import TEST
from spotwise.errors import SetupError
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


def pretrained(embeddings: Mapping[str, Path]) -> bool:
    """Whether the encoder of some slides' features had its published weights.

    Raises
    ------
    SetupError
        When it had them for some slides only: their features cannot be compared.
    """
    had = {}
    for sample, path in embeddings.items():
        with h5py.File(path) as file:
            had[sample] = bool(file.attrs["pretrained"])
    if len(set(had.values())) > 1:
        without = next(sample for sample, loaded in had.items() if not loaded)
        raise SetupError(
            f"{embeddings[without]}: embedded without pretrained weights, other slides with them: remove it and rerun "
            "where the weights can be fetched, or set the encoder's pretrained to required or no"
        )
    return set(had.values()) == {True}


def fit(
    fold_path: Path,
    embeddings: Mapping[str, Path],
    method: str,
    method_options: Mapping[str, object],
    threads: int,
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
    threads
        CPU threads, part of what fixes the bits.
    weights, summary
        Outputs: ``weights.safetensors`` and ``summary.json``.
    """
    fold = read_fold(fold_path)
    rows = fold.bank
    loaded = pretrained(embeddings)
    with threadpool_limits(threads):
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
            "pretrained_loaded": loaded,
            **report,
        },
    )


def predict(fold: Fold, sample: str, embedding: Path, method: str, weights: Path, trained: Mapping) -> np.ndarray:
    """Predicted expression (N, G) float32 of a test slide.

    Raises
    ------
    SetupError
        When the encoder had its published weights for this slide but not in training (``trained``, the summary of
        :func:`fit`), or the other way round.
    """
    if pretrained({sample: embedding}) != trained["pretrained_loaded"]:
        raise SetupError(f"{embedding}: embedded with other encoder weights than the training slides; remove it, rerun")
    rows = fold.rows(TEST, sample=sample)
    return load(method).predict(load_file(weights), features_of(fold, rows, {sample: embedding}))
