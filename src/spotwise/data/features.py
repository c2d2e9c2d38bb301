"""Features of patches by a frozen encoder, joined to the spots of a fold by barcode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from spotwise.constants import BARCODES, SLIDE_CENTRED, TEST
from spotwise.data.centring import standardised
from spotwise.data.folds import Fold
from spotwise.errors import InputError, SetupError
from spotwise.runtime import hdf5

BLOCKS = "blocks"  # group of a file with context features


class EmbeddedSpots(NamedTuple):
    """N spots with what a frozen method knows of them.

    Attributes
    ----------
    features
        (N, D) float32, or for a method of context the blocks (N, D) by name.
    slide, group
        (N,) slide of each spot, and slide or patient, the groups of the inner folds.
    spatial
        (N, 2) spot centres.
    total_counts
        (N,) counts of each training spot; NaN for spots to predict, whose counts no method may know.
    ring_pitch
        Distance between rings of neighbours in the unit of the centres; ``None`` is that of nearest spots, slide by
        slide.
    """

    features: np.ndarray | Mapping[str, np.ndarray]
    slide: np.ndarray
    group: np.ndarray
    spatial: np.ndarray
    total_counts: np.ndarray
    ring_pitch: float | None = None


class ContextBlocks(Mapping[str, np.ndarray]):
    """Blocks (n, D) float32 of context features by name, read from their files when asked for.

    Parameters
    ----------
    fold, rows
        The spots.
    files
        Context features of their slides by sample.
    """

    def __init__(self, fold: Fold, rows: np.ndarray, files: Mapping[str, Path]):
        self._slides = []  # file, rows of the block, rows of the file
        for sample in dict.fromkeys(fold.sample[rows]):
            at = np.flatnonzero(fold.sample[rows] == sample)
            self._slides.append((Path(files[sample]), at, _rows_of(files[sample], fold.barcode[rows[at]])))
        with h5py.File(self._slides[0][0]) as file:
            self._widths = {name: block.shape[1] for name, block in file[BLOCKS].items()}
        self._n = len(rows)

    def __getitem__(self, name: str) -> np.ndarray:
        block = np.empty((self._n, self._widths[name]), dtype=np.float32)
        for path, at, of_file in self._slides:
            with h5py.File(path) as file:
                block[at] = file[BLOCKS][name][:][of_file]
        return block

    def __iter__(self) -> Iterator[str]:
        return iter(self._widths)

    def __len__(self) -> int:
        return len(self._widths)


def write_context(path: str | Path, blocks: Mapping[str, np.ndarray], barcodes: np.ndarray, **attrs: object) -> None:
    """Write context features, blocks (N, D) by name, of N spots, with attributes such as the encoder."""
    with hdf5.create(path) as file:
        for name, block in blocks.items():
            file.create_dataset(f"{BLOCKS}/{name}", data=block)
        file.create_dataset(BARCODES, data=barcodes.astype(object), dtype=h5py.string_dtype())
        file.attrs.update(attrs)


def feature_width(embedding: Path) -> int:
    """Return the number of channels of embedded patches, or of all blocks of context features."""
    with h5py.File(embedding) as file:
        return sum(data.shape[1] for data in (file[BLOCKS].values() if BLOCKS in file else [file["embedding"]]))


def embedded_spots(
    fold: Fold, rows: np.ndarray, embeddings: Mapping[str, Path], preparation: str = "raw"
) -> EmbeddedSpots:
    """Join the spots at ``rows`` to their features, as :func:`features_of` reads them, or to their blocks."""
    with h5py.File(embeddings[fold.sample[rows[0]]]) as file:
        in_blocks = BLOCKS in file
    read = ContextBlocks(fold, rows, embeddings) if in_blocks else features_of(fold, rows, embeddings, preparation)
    known = np.where(fold.role[rows] == TEST, np.nan, fold.total_counts[rows])
    return EmbeddedSpots(read, fold.sample[rows], fold.owner()[rows], fold.spatial[rows], known)


def spot_features(embedding: str | Path, barcodes: Sequence[str]) -> np.ndarray:
    """Read features (n, D) of one slide, or raise `InputError` for spots without."""
    with h5py.File(embedding) as file:
        features = file["embedding"][:]
    return features[_rows_of(embedding, barcodes)]


def _rows_of(path: str | Path, barcodes: Sequence[str]) -> list[int]:
    """Find the rows of spots in a file with features of their slide."""
    with h5py.File(path) as file:
        row_of = {barcode: row for row, barcode in enumerate(file[BARCODES].asstr()[:].ravel())}
    missing = [barcode for barcode in barcodes if barcode not in row_of]
    if missing:
        expected = "features of every patch of the slide: remove the file and run again"
        raise InputError(path, BARCODES, f"no features of spot {missing[0]!r}", expected)
    return [row_of[barcode] for barcode in barcodes]


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


def encoder_hash(embeddings: Mapping[str, Path]) -> str:
    """Return the hash of the weights of the encoder behind embedded patches by sample."""
    with h5py.File(next(iter(embeddings.values()))) as file:
        return str(file.attrs["weights"])


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
