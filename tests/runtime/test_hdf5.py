"""Claims about HDF5 files: they appear when they are complete, and hold what AnnData's own writer would write."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spotwise.runtime import hdf5


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep/a.h5"
    with hdf5.create(path) as file:
        file["x"] = np.arange(5)
        assert not path.exists()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["x"], np.arange(5))
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_writer_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), hdf5.create(path) as file:
        file["x"] = [1 / 0]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_written_one_by_one_into_compressed_chunks_are_read_back(tmp_path):
    """There is no cache of chunks, so each row rewrites its chunk."""
    rows = np.random.default_rng(0).random((20, 7))
    with hdf5.create(tmp_path / "a.h5") as file:
        dataset = file.create_dataset("x", rows.shape, float, chunks=(8, 7), compression="gzip")
        for number, row in enumerate(rows):
            dataset[number] = row
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"], rows)


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    return anndata.AnnData(
        X=sparse.csr_matrix(rng.poisson(1, (30, 5)).astype(np.float32)),
        obs=pd.DataFrame({"label": ["a", "b", "c"] * 10, "n": np.arange(30)}, index=[f"s{spot}" for spot in range(30)]),
        var=pd.DataFrame(index=[f"G{gene}" for gene in range(5)]),
        obsm={"spatial": rng.random((30, 2))},
        layers={"observed": rng.random((30, 5))},
        uns={"spotwise": {"k": 50, "names": np.array(["x", "y"]), "note": "none"}},
    )


def contents(path):
    """Read attributes, values and compression of everything in an HDF5 file, as text."""
    found = {}

    def note(name, item):
        values = (np.asarray(item[()]).tolist(), item.compression) if isinstance(item, h5py.Dataset) else ()
        found[name] = repr((sorted(item.attrs), values))

    with h5py.File(path) as file:
        file.visititems(note)
        note("", file)
    return found


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_counts_are_written_as_anndatas_own_writer_writes_them(tmp_path, adata, compression):
    adata.copy().write_h5ad(tmp_path / "theirs.h5ad", compression=compression)
    hdf5.write_anndata(tmp_path / "ours.h5ad", adata, compression)
    ours, theirs = (contents(tmp_path / f"{name}.h5ad") for name in ("ours", "theirs"))
    assert len(ours) > 20
    assert ours == theirs
    assert anndata.read_h5ad(tmp_path / "ours.h5ad").obs["label"].dtype == "category"


def test_columns_are_the_matrix_of_an_object_without_one_and_lie_apart(tmp_path, adata):
    bare = anndata.AnnData(obs=adata.obs, var=pd.DataFrame(index=[f"g{number}" for number in range(80)]))
    columns = np.random.default_rng(5).normal(size=(bare.n_obs, 80)).astype(np.float32)
    hdf5.write_anndata(tmp_path / "a.h5ad", bare, "gzip", columns=columns)
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert file["X"].chunks == (bare.n_obs, 32)
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(read.X, columns)
    assert read.obs_names.equals(adata.obs_names)
