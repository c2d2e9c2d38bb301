"""Counts are read the same from whatever AnnData wrote them, and a damaged file is refused in one line."""

import errno
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from spotwise.data.counts_reader import read_counts, thumbnail
from spotwise.errors import InputError

# --- damaged files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def counts_file(tmp_path):
    path = tmp_path / "S1.h5ad"
    adata = anndata.AnnData(np.arange(6, dtype=np.float32).reshape(2, 3), obsm={"spatial": np.zeros((2, 2))})
    adata.var_names = ["A", "B", "B"]
    adata.write_h5ad(path)
    return path


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_counts_are_read_unchanged(counts_file):
    read = read_counts(counts_file)
    np.testing.assert_array_equal(read.X, [[0, 1, 2], [3, 4, 5]])
    assert list(read.var_names) == ["A", "B", "B"]


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_values(path):
    """Replace the stored values by zeros, which gzip cannot decompress."""
    anndata.AnnData(np.ones((2, 3), np.float32), obsm={"spatial": np.zeros((2, 2))}).write_h5ad(
        path, compression="gzip"
    )
    with h5py.File(path) as handle:
        chunk = handle["X"].id.get_chunk_info(0)
    with open(path, "r+b") as handle:
        handle.seek(chunk.byte_offset)
        handle.write(bytes(chunk.size))


def remove(name):
    def edit(path):
        with h5py.File(path, "r+") as handle:
            del handle[name]

    return edit


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (Path.unlink, "file: found no such file"),
        (cut_short, "file: found a truncated file"),
        (lambda path: path.write_bytes(b""), "file: found an empty file (0 bytes), not HDF5"),
        (lambda path: path.write_bytes(b"<html>Sign in</html>"), "file: found a web page (20 bytes), not HDF5"),
        (remove("X"), "X: found nothing"),
        (remove("var"), "var: found nothing"),
        (remove("obsm/spatial"), "obsm/spatial: found nothing"),
        (overwrite_values, "file: found a damaged file ("),
        (remove("obs/_index"), "obs index: found nothing, expected a name for every row"),
    ],
)
def test_unusable_counts_raise_an_error_of_one_line(counts_file, damage, complaint):
    damage(counts_file)
    with pytest.raises(InputError) as raised:
        read_counts(counts_file)
    assert str(raised.value).startswith(f"{counts_file}: {complaint}")
    assert "\n" not in str(raised.value)


def test_a_file_without_read_permission_is_not_called_damaged(counts_file, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(InputError, match=r"S1\.h5ad: file: found no permission to read it, expected "):
        read_counts(counts_file)


def test_thumbnail_is_hests_picture_where_there_is_one():
    adata = anndata.AnnData(np.ones((1, 1)))
    assert thumbnail(adata) is None
    adata.uns["spatial"] = {"is_single": True}
    assert thumbnail(adata) is None
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    adata.uns["spatial"] = {"ST": {"images": {"downscaled_fullres": picture}}}
    np.testing.assert_array_equal(np.asarray(thumbnail(adata)), picture)
