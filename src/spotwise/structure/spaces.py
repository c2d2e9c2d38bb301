"""Spaces, which are embeddings of a slide's spots, and their files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from spotwise.constants import BARCODES
from spotwise.errors import InputError
from spotwise.runtime import hdf5


@dataclass(frozen=True)
class Space:
    """An embedding (N, D) float32 of the spots ``barcode`` (N,) of one slide.

    ``seed`` is that of the training, for a baseline the first of the run. ``halves`` are the numbers of columns from
    the image and from the expression, if a model embeds them separately. ``pretrained`` says whether the image encoder
    had its published weights, and is ``None`` without an image. ``fell_back`` says whether random weights replaced
    configured ones. ``encoder`` is its name, ``None`` without an image or a name.
    """

    embedding: np.ndarray
    barcode: np.ndarray
    name: str
    seed: int
    halves: tuple[int, int] | None = None
    pretrained: bool | None = None
    fell_back: bool = False
    encoder: str | None = None

    def parts(self) -> list[Space]:
        """List the space and, as spaces named by `half_names`, its halves."""
        if self.halves is None:
            return [self]
        halves = np.split(self.embedding, self.halves[:1], axis=1)
        named = zip(halves, half_names(self.name), strict=True)
        return [self, *(replace(self, embedding=half, name=name, halves=None) for half, name in named)]


def half_names(space: str) -> list[str]:
    """Name the halves of a model's space, the image's first."""
    return [f"{space} (image half)", f"{space} (expression half)"]


def write_space(path: str | Path, space: Space) -> None:
    """Write ``spaces/{space}/seed{seed}/{sample}.h5``."""
    with hdf5.create(path) as file:
        file["embedding"] = np.asarray(space.embedding, dtype=np.float32)
        file.create_dataset(BARCODES, data=np.asarray(space.barcode, dtype=object), dtype=h5py.string_dtype())
        file.attrs["space"], file.attrs["seed"] = space.name, space.seed
        if space.halves is not None:
            file.attrs["halves"] = space.halves
        if space.pretrained is not None:
            file.attrs["pretrained"], file.attrs["fell_back"] = space.pretrained, space.fell_back
        if space.encoder is not None:
            file.attrs["encoder"] = space.encoder


def read_space(path: str | Path) -> Space:
    """Read a file that `write_space` wrote.

    Raises `InputError` if a spot's embedding is not finite.
    """
    with h5py.File(path) as file:
        halves, pretrained = file.attrs.get("halves"), file.attrs.get("pretrained")
        space = Space(
            embedding=file["embedding"][:],
            barcode=file[BARCODES].asstr()[:].astype(object),
            name=file.attrs["space"],
            seed=int(file.attrs["seed"]),
            halves=None if halves is None else (int(halves[0]), int(halves[1])),
            pretrained=None if pretrained is None else bool(pretrained),
            fell_back=bool(file.attrs.get("fell_back", False)),
            encoder=file.attrs.get("encoder"),
        )
    finite = np.isfinite(space.embedding).all(axis=1)
    if not finite.all():
        found = f"{int((~finite).sum())} of {len(finite)} spots not finite, first {space.barcode[np.argmin(finite)]!r}"
        raise InputError(path, "embedding", found, "numbers for every spot; train the space again")
    return space
