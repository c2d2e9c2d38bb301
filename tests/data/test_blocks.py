"""Claims about matrices read by blocks of rows: every form of a matrix gives the same rows, and wrong ones are told."""

import errno
import os

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from spotwise.data import blocks
from spotwise.data.blocks import by_rows, room, row_blocks, taken
from spotwise.errors import SetupError
from spotwise.runtime.memory import Free

DENSE = np.random.default_rng(0).poisson(0.5, (23, 11)).astype(np.float32)
DENSE[[0, 7, 8, 22]] = 0  # first, last and neighbouring rows without a value


def in_file(tmp_path, matrix):
    anndata.AnnData(matrix).write_h5ad(tmp_path / "slide.h5ad")
    return anndata.read_h5ad(tmp_path / "slide.h5ad", backed="r").X


FORMS = {
    "dense": lambda tmp_path: DENSE,
    "CSR": lambda tmp_path: sparse.csr_matrix(DENSE),
    "CSC": lambda tmp_path: sparse.csc_matrix(DENSE),
    "dense in a file": lambda tmp_path: in_file(tmp_path, DENSE),
    "CSR in a file": lambda tmp_path: in_file(tmp_path, sparse.csr_matrix(DENSE)),
    "CSC in a file": lambda tmp_path: in_file(tmp_path, sparse.csc_matrix(DENSE)),
}


@pytest.fixture(params=[1, 7, 50, 10**6])
def at_once(request, monkeypatch):
    monkeypatch.setattr(blocks, "VALUES_AT_ONCE", request.param)
    return request.param


@pytest.mark.parametrize("form", FORMS)
def test_blocks_are_the_rows_of_the_matrix_in_order(tmp_path, at_once, form):
    found, expected_start = [], 0
    for rows, block in row_blocks(by_rows(FORMS[form](tmp_path), tmp_path)):
        assert rows.start == expected_start
        assert block.shape == (rows.stop - rows.start, 11)
        assert block.has_canonical_format
        assert block.dtype == np.float32
        expected_start = rows.stop
        found.append(block.toarray())
    np.testing.assert_array_equal(np.concatenate(found), DENSE)


@pytest.mark.parametrize("form", ["CSR", "CSR in a file", "CSC in a file", "dense", "dense in a file"])
def test_a_block_holds_no_more_than_asked_for_and_one_row(tmp_path, at_once, form):
    for _, block in row_blocks(by_rows(FORMS[form](tmp_path), tmp_path)):
        assert block.nnz <= at_once + 11


def test_no_block_of_a_matrix_in_memory_is_a_copy():
    matrix = sparse.csr_matrix(DENSE[1:7])
    for _, block in row_blocks(by_rows(matrix)):
        assert np.shares_memory(block.data, matrix.data)
        assert np.shares_memory(block.indices, matrix.indices)


def test_a_dense_file_is_read_by_whole_chunks_unless_they_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "VALUES_AT_ONCE", 11)
    with h5py.File(tmp_path / "dense.h5", "w") as file:
        stored = file.create_dataset("X", data=DENSE, chunks=(5, 3))
        assert [rows.stop - rows.start for rows, _ in row_blocks(stored)] == [5, 5, 5, 5, 3]
        monkeypatch.setattr(blocks, "MOST_AT_ONCE", 40)
        assert {rows.stop - rows.start for rows, _ in row_blocks(stored)} == {3, 2}  # 3 rows of 11 values, and the last


def test_sorting_a_matrix_of_columns_anew_keeps_its_type(tmp_path):
    counts = sparse.csc_matrix(DENSE.astype(np.uint16))
    turned = by_rows(in_file(tmp_path, counts), tmp_path)
    assert turned.dtype == np.uint16
    np.testing.assert_array_equal(turned.toarray(), DENSE)


@pytest.mark.parametrize("form", FORMS)
def test_taken_rows_and_columns_are_those_of_the_matrix(tmp_path, at_once, form):
    rows, columns = np.array([3, 4, 9, 21]), np.array([1, 2, 9])
    part = taken(by_rows(FORMS[form](tmp_path), tmp_path), rows, columns)
    assert isinstance(part, sparse.csr_matrix)
    np.testing.assert_array_equal(part.toarray(), DENSE[np.ix_(rows, columns)])


# --- matrices that are none -------------------------------------------------------------------------------------------


def damaged(name, change):
    def make(folder):
        stored = in_file(folder, sparse.csr_matrix(DENSE))
        stored.group.file.close()
        with h5py.File(folder / "slide.h5ad", "r+") as file:
            values = file[f"X/{name}"][:]
            del file[f"X/{name}"]
            file[f"X/{name}"] = change(values)
        return anndata.read_h5ad(folder / "slide.h5ad", backed="r").X

    return make


def with_entry(at, value):
    def change(values):
        values[at] = value
        return values

    return change


DAMAGE = {
    "an index beyond the columns": ("indices", with_entry(-1, 11), "indices must be from 0 to 10"),
    "a negative index": ("indices", with_entry(2, -1), "indices must be from 0 to 10"),
    "fewer indices than values": ("indices", lambda values: values[:-1], "values, .* indices and pointers up to"),
    "fewer values than the rows point to": (
        "data",
        lambda values: values[:-3],
        "values, .* indices and pointers up to",
    ),
    "rows that overlap": ("indptr", with_entry(9, 0), "index pointers that do not fit the rows"),
    "rows from the second value on": ("indptr", with_entry(0, 1), "index pointers that do not fit the rows"),
    "too few rows": ("indptr", lambda values: values[:-1], "index pointers that do not fit the rows"),
    "rows that reach too far": ("indptr", with_entry(-1, 10**6), "pointers up to 1000000"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_index_arrays_that_contradict_each_other_are_refused(tmp_path, case):
    name, change, complaint = DAMAGE[case]
    with pytest.raises(ValueError, match=complaint):
        list(row_blocks(by_rows(damaged(name, change)(tmp_path))))


def test_an_index_beyond_the_rows_of_a_matrix_of_columns_is_refused(tmp_path):
    stored = in_file(tmp_path, sparse.csc_matrix(DENSE))
    stored.group.file.close()
    with h5py.File(tmp_path / "slide.h5ad", "r+") as file:
        file["X/indices"][3] = 23
    with pytest.raises(ValueError, match="indices must be from 0 to 22"):
        by_rows(anndata.read_h5ad(tmp_path / "slide.h5ad", backed="r").X)


# --- room -------------------------------------------------------------------------------------------------------------


def free(monkeypatch, n_bytes):
    monkeypatch.setattr(blocks, "free_host", lambda: Free(n_bytes, "the test"))


def test_arrays_of_more_than_half_of_what_is_free_lie_in_files_without_names(tmp_path, monkeypatch):
    free(monkeypatch, 2 * 8 * 1000)
    values, index = room(1000, np.float32, np.int32, scratch=tmp_path)
    assert not isinstance(values, np.memmap)
    values, index = room(1001, np.float32, np.int32, scratch=tmp_path)
    assert isinstance(values, np.memmap)
    assert (values.dtype, index.dtype, values.shape, index.shape) == (np.float32, np.int32, (1001,), (1001,))
    values[:], index[:] = 1.5, 7
    assert (values == 1.5).all()
    assert (index == 7).all()
    assert not list(tmp_path.iterdir())


def test_nothing_needs_no_room_where_none_is(monkeypatch):
    free(monkeypatch, 0)
    assert room(0, np.float32)[0].shape == (0,)


def test_a_full_disk_under_counts_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    free(monkeypatch, 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SetupError, match=rf"{tmp_path}: No space left on device: no room for 0\.00 GB of counts"):
        room(10, np.float32, scratch=tmp_path)
