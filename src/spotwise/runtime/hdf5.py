"""Atomic writing of HDF5 files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py

from spotwise.errors import SetupError
from spotwise.runtime.files import atomic
from spotwise.runtime.input_files import lock_fault

if TYPE_CHECKING:
    from anndata import AnnData


@contextmanager
def create(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Create an HDF5 file as :func:`atomic` does.

    Chunks are written without a cache, so that on a full disk HDF5 fails at the write and does not crash at exit.

    Raises
    ------
    SetupError
        The disk is full, or its file system has no file locks.
    """
    with atomic(path) as temporary:
        try:
            file = h5py.File(temporary, "w", rdcc_nbytes=0)
        except OSError as error:
            if known := lock_fault(error):
                raise SetupError(f"{path}: {': '.join(known)}") from None
            raise
        with file:
            yield file


def write_anndata(path: str | os.PathLike, adata: AnnData, compression: str | None = None) -> None:
    """Write an AnnData object as ``AnnData.write_h5ad`` does, atomically."""
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    with create(path) as file:
        write_elem(file, "/", adata, dataset_kwargs={"compression": compression})
        if adata.raw is None:
            del file["raw"]  # an empty element, which `write_h5ad` does not write
