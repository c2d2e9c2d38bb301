"""Embedded patches of frozen encoders, joined to a fold's spots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from spotwise.data.folds import Fold
from spotwise.errors import SetupError


def feature_width(embedding: Path) -> int:
    """Channels of embedded patches."""
    with h5py.File(embedding) as file:
        return file["embedding"].shape[1]


def features_of(fold: Fold, rows: np.ndarray, embeddings: Mapping[str, Path]) -> np.ndarray:
    """(n, D) float32 features of the spots at ``rows``, from the embedded patches of their slides."""
    parts = {}
    for sample in dict.fromkeys(fold.sample[rows]):
        with h5py.File(embeddings[sample]) as file:
            parts[sample] = file["embedding"][:]
    return np.stack([parts[fold.sample[row]][fold.patch[row]] for row in rows])


def encoder_name(embeddings: Mapping[str, Path]) -> str:
    """Return the name of the encoder behind embedded patches by sample."""
    with h5py.File(next(iter(embeddings.values()))) as file:
        return str(file.attrs["encoder"])


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
