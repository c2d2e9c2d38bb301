"""Fitting of methods on the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from spotwise.data.features import embedded_spots, encoder_name, fell_back, pretrained
from spotwise.data.folds import read_fold
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
    preparation: Mapping[str, object] | None = None,
) -> None:
    """Fit a frozen method on all training spots of a fold, validation spots included.

    Nothing is chosen on the validation spots, as a frozen method chooses inside the training slides.

    ``embeddings`` are the embedded patches, or context features, of the training slides by sample, ``preparation`` the
    attributes of :class:`spotwise.models.description.ModelDescription` of that kind. ``weights.safetensors``,
    ``model.json`` and ``summary.json`` go into the folder ``model``. The last bits depend on the number of ``threads``.
    """
    fold = read_fold(fold_path)
    rows = fold.bank
    preparation = preparation or {}
    loaded = pretrained(embeddings)
    with threadpool_limits(threads):
        fitted, report = load(method)(options(method, method_options)).fit(
            embedded_spots(fold, rows, embeddings, preparation.get("features", "raw")), fold.expression[rows]
        )
    with atomic(model / WEIGHTS) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in fitted.items()}, temporary)
    sizes = Sizes.of(fold, embeddings)
    write_description(
        model,
        describe(
            method,
            method_options,
            fold,
            sizes,
            encoder_name(embeddings),
            loaded,
            fell_back(embeddings),
            fitted=report,
            **preparation,
        ),
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
