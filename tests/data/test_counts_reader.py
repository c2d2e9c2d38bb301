"""Counts are read the same from whatever AnnData wrote them, and a damaged file is refused in one line."""

import errno
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from scipy import sparse

from countedslides import dense
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts, thumbnail
from spotwise.data.genes import normalise
from spotwise.errors import InputError
from spotwise.runtime.hdf5 import write_anndata

# --- writers ----------------------------------------------------------------------------------------------------------

BARCODES, GENES = ["AC-1", "GT-1", "TA-1"], ["EPCAM", "CD3E", "IgG", "KRT19"]
TYPES = ["Gene Expression", "Gene Expression", "Antibody Capture", "Gene Expression"]
COUNTS = np.array([[1, 2, 90, 3], [4, 0, 80, 6], [7, 8, 70, 9]], np.float32)
CENTRES = np.array([[10, 20], [30, 40], [50, 60]])
PICTURE = np.full((4, 6, 3), 200, np.uint8)


def counts(**uns):
    obs = pd.DataFrame({"in_tissue": [1, 0, 1], "array_row": [0, 1, 2], "array_col": [3, 4, 5]}, index=BARCODES)
    var = pd.DataFrame({"feature_types": pd.Categorical(TYPES)}, index=GENES)
    library = {"images": {"downscaled_fullres": PICTURE}, "scalefactors": {"spot_diameter_fullres": 8.5}}
    uns = {"spatial": {"ST": library}, "pixel_size_um_estimated": 0.5} | uns
    return anndata.AnnData(sparse.csr_matrix(COUNTS), obs, var, obsm={"spatial": CENTRES}, uns=uns)


def index(part, values):
    """Store the names of ``obs`` or ``var`` as an element of AnnData's format."""

    def edit(file):
        name = file[part].attrs["_index"]
        del file[part][name]
        write_elem(file[part], name, values)

    return edit


def raw_index(part, values):
    def edit(file):
        name = file[part].attrs["_index"]
        del file[part][name]
        file[part][name] = values

    return edit


def nullable(values):
    return pd.array(values, dtype="string")


def as_anndata_06(file):
    """Tables and obsm as compound datasets, categories in uns: by the files that 0.6.10 writes."""
    for name in ("obs", "var", "obsm"):
        del file[name]
    columns = [("index", "S7"), ("in_tissue", "i8"), ("array_row", "i8"), ("array_col", "i8")]
    file["obs"] = np.array(list(zip(np.bytes_(BARCODES), [1, 0, 1], [0, 1, 2], [3, 4, 5], strict=True)), dtype=columns)
    codes = [1 - (kind == "Antibody Capture") * 1 for kind in TYPES]
    file["var"] = np.array(
        list(zip(np.bytes_(GENES), codes, strict=True)), dtype=[("index", "S6"), ("feature_types", "i1")]
    )
    file["uns/feature_types_categories"] = np.array(["Antibody Capture", "Gene Expression"], dtype="S")
    file["obsm"] = np.array([(xy,) for xy in CENTRES], dtype=[("spatial", "i8", (2,))])
    matrix = file["X"]
    for attribute in list(matrix.attrs):
        del matrix.attrs[attribute]
    matrix.attrs["h5sparse_format"], matrix.attrs["h5sparse_shape"] = "csr", np.array(COUNTS.shape)


def as_anndata_07(file):
    """Categories in a group of their own, to which the column refers."""
    for part in ("obs", "var"):
        file[part].attrs["encoding-version"] = "0.1.0"
    del file["var/feature_types"]
    file["var/__categories/feature_types"] = np.array(["Antibody Capture", "Gene Expression"], dtype=object)
    file["var/feature_types"] = np.array([kind == "Gene Expression" for kind in TYPES], dtype=np.int8)
    file["var/feature_types"].attrs["categories"] = file["var/__categories/feature_types"].ref


def as_r(file):
    """Attributes are vectors of length one, and names have no encoding, as rhdf5 writes them."""
    for part, names in (("obs", BARCODES), ("var", GENES)):
        name = file[part].attrs["_index"]
        del file[part][name]
        file[part][name] = np.array(names, dtype="S")
        file[part].attrs["_index"] = np.array([name], dtype=object)


WRITERS = {
    "today's": lambda file: None,
    "anndata 0.6": as_anndata_06,
    "anndata 0.7": as_anndata_07,
    "pandas 3": lambda file: (index("obs", nullable(BARCODES))(file), index("var", nullable(GENES))(file)),
    "an index of categories": lambda file: (
        index("obs", pd.Categorical(BARCODES))(file),
        index("var", pd.Categorical(GENES))(file),
    ),
    "bytes of fixed length": lambda file: (
        raw_index("obs", np.array(BARCODES, dtype="S9"))(file),
        raw_index("var", np.array(GENES, dtype="S9"))(file),
    ),
    "bytes written as text": raw_index("obs", np.array([f"b'{name}'" for name in BARCODES], dtype=object)),
    "blanks behind the names": raw_index("obs", np.array([f"{name} " for name in BARCODES], dtype=object)),
    "R": as_r,
    "in_tissue as text": lambda file: (
        file.pop("obs/in_tissue"),
        write_elem(file["obs"], "in_tissue", ["1", "0", "1"]),
    ),
    "a table of coordinates": lambda file: write_elem(
        file["obsm"], "spatial", pd.DataFrame(CENTRES, index=BARCODES, columns=["x", "y"])
    ),
    "without uns": lambda file: file.pop("uns"),
}


@pytest.fixture(autouse=True)
def nullable_strings():
    with anndata.settings.override(allow_write_nullable_strings=True):
        yield


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_writer_gives_the_same_counts(tmp_path, write):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        write(file)
    with anndata.settings.override(allow_write_nullable_strings=False):  # as in a run
        cleaned, qc = clean_counts(read_counts(path), "S1", None, 1, path)
        write_anndata(tmp_path / "counts.h5ad", normalise(cleaned), "gzip")
    assert list(cleaned.obs_names) == BARCODES
    assert list(cleaned.var_names) == ["EPCAM", "CD3E", "KRT19"]
    np.testing.assert_array_equal(dense(cleaned), COUNTS[:, [0, 1, 3]])
    np.testing.assert_array_equal(cleaned.obsm["spatial"], CENTRES)
    assert qc["n_spots_kept_off_tissue"] == 1
    assert list(cleaned.obs["array_col"]) == [3, 4, 5]
    assert list(anndata.read_h5ad(tmp_path / "counts.h5ad").obs_names) == BARCODES


def test_barcodes_that_were_cleaned_are_counted(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        index("obs", np.array(["AC-1", "GT-1 ", "b'TA-1'"], dtype=object))(file)
    _, qc = clean_counts(read_counts(path), "S1", None, 1, path)
    assert qc["n_barcodes_cleaned"] == 2
    assert any(warning.startswith("2 barcodes had blanks around them") for warning in qc["warnings"])


FORMATS = {
    "10x": ("matrix/barcodes", "a matrix of 10x", "read_10x_h5"),
    "MuData": ("mod/rna/X", "a MuData file", r"\['rna'\]"),
    "loom": ("row_attrs/Gene", "a loom file", "read_loom"),
    "h5Seurat": ("assays/RNA", "an h5Seurat file", "Convert"),
}


@pytest.mark.parametrize(("member", "name", "remedy"), FORMATS.values(), ids=FORMATS)
def test_other_formats_in_hdf5_are_named_with_the_call_that_converts_them(tmp_path, member, name, remedy):
    path = tmp_path / "S1.h5ad"
    with h5py.File(path, "w") as file:
        file[member] = np.zeros(3)
    with pytest.raises(InputError, match=f"file: found {name}, expected an .h5ad; write it with .*{remedy}"):
        read_counts(path)


def test_sparse_half_precision_is_refused_by_its_type(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        values = file["X/data"][:].astype(np.float16)
        del file["X/data"]
        file["X/data"] = values
    with pytest.raises(InputError, match="X: found sparse values of type float16, expected raw counts as float32"):
        read_counts(path)


def test_names_that_are_missing_are_empty_and_their_rows_are_named(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        index("var", nullable([None, *GENES[1:]]))(file)
    cleaned, qc = clean_counts(read_counts(path), "S1", None, 1, path)
    assert list(cleaned.var_names) == ["CD3E", "KRT19"]
    assert qc["n_unnamed_dropped"] == 1
    with h5py.File(path, "r+") as file:
        index("obs", nullable([BARCODES[0], None, BARCODES[2]]))(file)
    with pytest.raises(InputError, match="obs index: found '' in row 1, expected a barcode for every spot"):
        clean_counts(read_counts(path), "S1", None, 1, path)


def test_whole_numbers_are_barcodes(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        raw_index("obs", np.array([7, 8, 9]))(file)
    assert list(read_counts(path).obs_names) == ["7", "8", "9"]


def test_what_is_not_used_is_not_read(tmp_path):
    """Layers, raw and other columns may be damaged or of an unknown encoding."""
    adata = counts(neighbours={"params": None}, log=np.ones(5))
    adata.obs["odd"] = 1.0
    adata.layers["scaled"] = np.zeros_like(COUNTS)
    adata.obsp["distances"] = sparse.eye(3).tocsr()
    adata.raw = adata
    path = tmp_path / "S1.h5ad"
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name in ("obs/odd", "layers/scaled", "obsp/distances", "raw/X"):
            file[name].attrs["encoding-type"] = "of the future"
        file["uns/table"] = np.zeros(2, dtype=[("a", "i4")])
    read = read_counts(path)
    np.testing.assert_array_equal(dense(read), COUNTS)
    assert not read.layers
    assert read.raw is None
    assert list(read.obs) == ["in_tissue", "array_row", "array_col"]
    assert read.uns["pixel_size_um_estimated"] == 0.5
    assert read.uns["spatial"]["ST"]["scalefactors"] == {"spot_diameter_fullres": 8.5}


LIBRARIES = {
    "pictures taken out": {"ST": {"images": None, "scalefactors": {"spot_diameter_fullres": 8.5}}},
    "nothing in it": {"ST": {}},
    "another picture": {"ST": {"images": {"hires": np.ones((9, 9, 3), np.float32)}}},
    "a picture of floats": {"ST": {"images": {"downscaled_fullres": np.ones((9, 9, 3), np.float32)}}},
    "a table for pictures": {"ST": {"images": pd.DataFrame({"a": [1]})}},
    "a text": "none",
    "an array": np.zeros((3, 2)),
    "a flag beside it": {"is_single": True},
    "an empty picture": {"ST": {"images": {"downscaled_fullres": np.zeros((0, 0, 3), np.uint8)}}},
    "two channels": {"ST": {"images": {"downscaled_fullres": np.zeros((9, 9, 2), np.uint8)}}},
}


@pytest.mark.parametrize("spatial", LIBRARIES.values(), ids=LIBRARIES)
def test_uns_spatial_of_any_form_is_read(tmp_path, spatial):
    path = tmp_path / "S1.h5ad"
    counts(spatial=spatial).write_h5ad(path)
    read = read_counts(path)
    assert thumbnail(read) is None
    assert clean_counts(read, "S1", None, 1, path)[0].n_obs == 3


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_pictures_of_any_number_of_channels_are_shown(tmp_path, shape):
    path = tmp_path / "S1.h5ad"
    counts(spatial={"ST": {"images": {"downscaled_fullres": np.full(shape, 200, np.uint8)}}}).write_h5ad(path)
    np.testing.assert_array_equal(np.asarray(thumbnail(read_counts(path))), np.full((4, 6, 3), 200))


def test_coordinates_under_another_name_are_named(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file.move("obsm/spatial", "obsm/X_spatial")
    with pytest.raises(
        InputError, match=r'found only X_spatial, .*adata\.obsm\["spatial"\] = adata\.obsm\["X_spatial"\]'
    ):
        read_counts(path)


def test_a_table_of_coordinates_in_another_order_is_refused(tmp_path):
    path = tmp_path / "S1.h5ad"
    counts().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        write_elem(file["obsm"], "spatial", pd.DataFrame(CENTRES, index=BARCODES[::-1], columns=["x", "y"]))
    with pytest.raises(InputError, match="an index that differs from the barcodes"):
        read_counts(path)


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


def link(path, name):
    """Put a link to nowhere in place of an element."""
    remove(name)(path)
    with h5py.File(path, "r+") as handle:
        handle[name] = h5py.SoftLink("/nowhere")


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
        (lambda path: link(path, "X"), "file: found contents that cannot be read ('Unable to synch"),
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
