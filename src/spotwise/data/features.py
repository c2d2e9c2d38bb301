"""Features of patches by a frozen encoder, joined to the spots of a fold by barcode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from spotwise.constants import BARCODES, SLIDE_CENTRED
from spotwise.data.centring import standardised
from spotwise.data.folds import Fold
from spotwise.errors import InputError, SetupError


def feature_width(embedding: Path) -> int:
    """Return the number of channels of embedded patches."""
    with h5py.File(embedding) as file:
        return file["embedding"].shape[1]


def spot_features(embedding: str | Path, barcodes: Sequence[str]) -> np.ndarray:
    """Read features (n, D) of one slide, or raise `InputError` for spots without."""
    with h5py.File(embedding) as file:
        row_of = {barcode: row for row, barcode in enumerate(file[BARCODES].asstr()[:].ravel())}
        features = file["embedding"][:]
    missing = [barcode for barcode in barcodes if barcode not in row_of]
    if missing:
        expected = "features of every patch of the slide: remove the file and run again"
        raise InputError(embedding, BARCODES, f"no features of spot {missing[0]!r}", expected)
    return features[[row_of[barcode] for barcode in barcodes]]


def features_of(fold: Fold, rows: np.ndarray, embeddings: Mapping[str, Path], preparation: str = "raw") -> np.ndarray:
    """Read the features (n, D) float32 of the spots at ``rows``.

    With the preparation ``slide_centred`` they are standardised on each slide, of which ``rows`` must have all spots.
    """
    samples = fold.sample[rows]
    by_slide = [np.flatnonzero(samples == sample) for sample in dict.fromkeys(samples)]
    features = [spot_features(embeddings[samples[at[0]]], fold.barcode[rows[at]]) for at in by_slide]
    joined = np.concatenate(features)[np.argsort(np.concatenate(by_slide))]
    return standardised(joined, samples) if preparation == SLIDE_CENTRED else joined


def encoder_name(embeddings: Mapping[str, Path]) -> str:
    """Return the name of the encoder behind embedded patches by sample."""
    with h5py.File(next(iter(embeddings.values()))) as file:
        return str(file.attrs["encoder"])


def fell_back(embeddings: Mapping[str, Path]) -> bool:
    """Return whether the encoder had random weights although pretrained ones were asked for."""
    with h5py.File(next(iter(embeddings.values()))) as file:
        return bool(file.attrs.get("fell_back", False))


def pretrained(embeddings: Mapping[str, Path]) -> bool:
    """Return whether the encoder of embedded patches had its published weights.

    Raises
    ------
    SetupError
        It had them for some slides only: their features cannot be compared.
    """
    without = []
    for path in embeddings.values():
        with h5py.File(path) as file:
            if not file.attrs["pretrained"]:
                without.append(path)
    if without and len(without) < len(embeddings):
        raise SetupError(
            f"{without[0]}: embedded without pretrained weights, other slides with them: remove it and rerun "
            "where the weights can be fetched, or set the encoder's pretrained to required or no"
        )
    return not without
