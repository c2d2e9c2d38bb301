"""Sparse matrices a block of rows at a time: in memory, or left in a file because they are larger than that."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import scipy  # loads a subpackage when it is used

from spotwise.runtime.memory import free_host, mapped

VALUES_AT_ONCE = 2**18  # stored ones of a sparse matrix, or all of a dense one: bounds what a step holds beside it
MOST_AT_ONCE = 2**24  # of a dense matrix in a file: its chunks may reach over more rows, and are read as a whole


class Stored:
    """A sparse matrix in a group of an HDF5 file; its rows are those of CSR, or the columns of CSC.

    Attributes
    ----------
    shape
        Rows and columns, of CSC transposed.
    data, indices
        Datasets, one entry per stored value.
    indptr
        Array: where each row begins in them.
    """

    def __init__(self, group: h5py.Group, shape: tuple[int, int]):
        self.shape = shape
        self.data, self.indices, self.indptr = group["data"], group["indices"], group["indptr"][:]


Rows = "scipy.sparse.csr_matrix | Stored | np.ndarray | h5py.Dataset"


def by_rows(matrix: object, scratch: Path | None = None) -> Rows:
    """The same matrix (N, G) in a form that :func:`row_blocks` reads.

    Parameters
    ----------
    matrix
        ``X`` of an AnnData, in memory or in its file (``backed``), dense, CSR or CSC. CSR and dense ones are not
        copied. CSC in a file is sorted anew by rows, a block of columns at a time.
    scratch
        Folder for what does not fit into memory, as in :func:`room`.

    Raises
    ------
    TypeError, ValueError
        It is no matrix.
    """
    group = getattr(matrix, "group", None)
    if isinstance(group, h5py.Group):
        stored = Stored(group, matrix.shape if matrix.format == "csr" else matrix.shape[::-1])
        return stored if matrix.format == "csr" else _turned(stored, scratch)
    if isinstance(matrix, np.ndarray | h5py.Dataset) and matrix.ndim == 2:
        return matrix
    return scipy.sparse.csr_matrix(matrix)


def row_blocks(matrix: Rows) -> Iterator[tuple[slice, scipy.sparse.csr_matrix]]:
    """Consecutive rows of a matrix (N, G) and what stands in them, about `VALUES_AT_ONCE` values at a time.

    A block has the matrix's own type of values. Of CSR in memory it is a view: not to be changed.

    Raises
    ------
    ValueError
        The matrix's index arrays contradict each other or its shape.
    """
    if isinstance(matrix, np.ndarray | h5py.Dataset):
        in_chunk = (getattr(matrix, "chunks", None) or (1,))[0]
        wide = max(1, matrix.shape[1])
        step = max(1, min(max(VALUES_AT_ONCE // wide, in_chunk), MOST_AT_ONCE // wide))
        for start in range(0, matrix.shape[0], step):
            rows = slice(start, min(start + step, matrix.shape[0]))
            yield rows, scipy.sparse.csr_matrix(matrix[rows])
        return
    for rows in _spans(matrix):
        ends = matrix.indptr[rows.start : rows.stop + 1]
        stored = slice(ends[0], ends[-1])
        indices, shape = matrix.indices[stored], (rows.stop - rows.start, matrix.shape[1])
        if len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]:
            # it would be read from memory that is not ours
            raise ValueError(f"indices must be from 0 to {shape[1] - 1}")
        yield rows, csr(matrix.data[stored], indices, ends - ends[0], shape)


def csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    """CSR on just these arrays, which are known to fit together; scipy's own way copies slices of larger ones."""
    matrix = scipy.sparse.csr_matrix(shape, dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
    return matrix


def _spans(matrix: scipy.sparse.csr_matrix | Stored) -> Iterator[slice]:
    """Rows that hold about `VALUES_AT_ONCE` values each."""
    indptr, n_values = matrix.indptr, len(matrix.data)
    if len(indptr) != matrix.shape[0] + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError("index pointers that do not fit the rows")
    if not indptr[-1] <= n_values == len(matrix.indices):
        raise ValueError(f"{n_values} values, {len(matrix.indices)} indices and pointers up to {indptr[-1]}")
    starts = np.searchsorted(indptr, np.arange(0, indptr[-1], VALUES_AT_ONCE), side="right") - 1
    return (slice(*each) for each in pairwise([*np.unique([0, *starts]).tolist(), matrix.shape[0]]))


def taken(matrix: Rows, rows: np.ndarray, columns: np.ndarray) -> scipy.sparse.csr_matrix:
    """``rows``, ascending, and ``columns`` of a matrix (N, G), which is read by blocks."""
    wanted = np.zeros(matrix.shape[0], dtype=bool)
    wanted[rows] = True
    return scipy.sparse.vstack([block[wanted[here]][:, columns] for here, block in row_blocks(matrix)], format="csr")


def room(n_values: int, *dtypes: type, scratch: Path | None = None) -> list[np.ndarray]:
    """Unfilled arrays of ``n_values`` each, in memory where that leaves half of what is free, else in mapped files.

    Parameters
    ----------
    n_values, dtypes
        Length of each array, and the type of its values.
    scratch
        Folder for the files, which have no names in it and go with the arrays; the system's temporary one by default.
    """
    n_bytes = n_values * sum(np.dtype(dtype).itemsize for dtype in dtypes)
    if n_bytes <= free_host().bytes / 2:
        return [np.empty(n_values, dtype) for dtype in dtypes]
    remedy = "free some, or give the job more memory"
    return [mapped((n_values,), dtype, scratch, "counts", remedy) for dtype in dtypes]


def index_dtype(n_values: int, n_columns: int) -> type:
    """The type of index in which scipy keeps a matrix of so many values and columns."""
    return np.int32 if max(n_values, n_columns) <= np.iinfo(np.int32).max else np.int64


def _turned(columns: Stored, scratch: Path | None) -> scipy.sparse.csr_matrix:
    """CSR of a CSC matrix in a file."""
    n_columns, n_rows = columns.shape
    per_row = np.zeros(n_rows, dtype=np.int64)
    for _, block in row_blocks(columns):
        per_row += np.bincount(block.indices, minlength=n_rows)
    index = index_dtype(len(columns.data), n_columns)
    indptr = np.concatenate([[0], np.cumsum(per_row)]).astype(index)
    values, indices = room(int(indptr[-1]), columns.data.dtype, index, scratch=scratch)
    following = indptr[:-1].copy()
    for here, block in row_blocks(columns):
        rows = block.T.tocsr()
        place = np.repeat(following - rows.indptr[:-1], np.diff(rows.indptr)) + np.arange(rows.nnz)
        values[place], indices[place] = rows.data, rows.indices + here.start
        following += np.diff(rows.indptr)
    return csr(values, indices, indptr, (n_rows, n_columns))
