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
    import numpy as np
    from anndata import AnnData

CHUNK_COLUMNS = 32


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


def write_anndata(
    path: str | os.PathLike, adata: AnnData, compression: str | None = None, columns: np.ndarray | None = None
) -> None:
    """Write an AnnData object as ``AnnData.write_h5ad`` does, atomically.

    ``columns`` (N, G) is the ``X`` of an ``adata`` without one. It is stored in chunks of all rows and `CHUNK_COLUMNS`,
    so that a column is read alone, with the bytes of its values sorted by significance before they are compressed.
    """
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    with create(path) as file:
        write_elem(file, "/", adata, dataset_kwargs={"compression": compression})
        if columns is not None:
            chunks = max(1, adata.n_obs), max(1, min(CHUNK_COLUMNS, adata.n_vars))
            stored = {"compression": compression, "chunks": chunks, "shuffle": True}
            write_elem(file, "X", columns, dataset_kwargs=stored)
        if adata.raw is None:
            del file["raw"]  # an empty element, which `write_h5ad` does not write
