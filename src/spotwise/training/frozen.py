"""Methods on frozen features: fitted on a fold's spots, their weights on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from spotwise.constants import TEST
from spotwise.data.features import encoder_name, features_of, pretrained
from spotwise.data.folds import Fold, read_fold
from spotwise.errors import SetupError
from spotwise.models.description import WEIGHTS, describe, write_description
from spotwise.models.registry import load, options
from spotwise.models.sizes import Sizes
from spotwise.runtime.files import atomic, write_json


def fit(
    fold_path: Path,
    embeddings: Mapping[str, Path],
    method: str,
    method_options: Mapping[str, object],
    threads: int,
    model: Path,
) -> None:
    """Fit a frozen method on all training spots of a fold, validation spots included.

    Nothing is chosen on the validation spots, as a frozen method chooses inside the training slides.

    Parameters
    ----------
    fold_path, embeddings
        ``fold.h5``, and the embedded patches of the training slides by sample.
    method, method_options
        Registered class and its options.
    threads
        CPU threads, which the last bits depend on.
    model
        Output folder for ``weights.safetensors``, ``model.json`` and ``summary.json``.
    """
    fold = read_fold(fold_path)
    rows = fold.bank
    loaded = pretrained(embeddings)
    with threadpool_limits(threads):
        fitted, report = load(method)(options(method, method_options)).fit(
            features_of(fold, rows, embeddings), fold.expression[rows], fold.owner()[rows], fold.spatial[rows]
        )
    with atomic(model / WEIGHTS) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in fitted.items()}, temporary)
    sizes = Sizes.of(fold, embeddings)
    write_description(
        model, describe(method, method_options, fold, sizes, encoder_name(embeddings), loaded, fitted=report)
    )
    write_json(
        model / "summary.json",
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


def predict(
    fold: Fold, sample: str, embedding: Path, method: str, weights: Path, trained: Mapping[str, object]
) -> np.ndarray:
    """Predicted expression (N, G) float32 of a test slide, whose measured expression is not read.

    Parameters
    ----------
    fold, sample, embedding
        The fold, its test slide, and the slide's embedded patches.
    method, weights, trained
        The fitted method, with the summary of :func:`fit`.

    Raises
    ------
    SetupError
        When the encoder had its published weights for this slide but not in training, or the other way round.
    """
    if pretrained({sample: embedding}) != trained["pretrained_loaded"]:
        raise SetupError(f"{embedding}: embedded with other encoder weights than the training slides; remove it, rerun")
    features = features_of(fold, fold.rows(TEST, sample=sample), {sample: embedding})
    fitted = load(method)(options(method, trained["method_options"]))
    return fitted.predict(load_file(weights), features, fold.expression[fold.bank])
