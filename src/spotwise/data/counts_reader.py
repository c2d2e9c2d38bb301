"""Read ``st/{sample}.h5ad`` as any version of AnnData writes it, without the parts that nobody asks for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from PIL import Image
from scipy import sparse

from spotwise.constants import SPATIAL
from spotwise.data.barcodes import clean_labels
from spotwise.errors import InputError, SetupError, first_line
from spotwise.runtime.input_files import open_input

EXPECTED = "a complete .h5ad"
# A member that other formats in HDF5 have, their name, and the call that makes an .h5ad of them
OTHER_FORMATS = {
    "matrix/barcodes": ("a matrix of 10x", "scanpy.read_10x_h5(...).write_h5ad(...), with obsm['spatial'] added"),
    "mod": ("a MuData file", "mudata.read_h5mu(...)['rna'].write_h5ad(...)"),
    "row_attrs": ("a loom file", "anndata.io.read_loom(...).write_h5ad(...), with obsm['spatial'] added"),
    "assays": ("an h5Seurat file", 'SeuratDisk::Convert(..., dest = "h5ad"), with obsm["spatial"] added'),
}
# Columns that are read; the others may hold what they like
OBS_COLUMNS = re.compile(r"in_tissue|array_(row|col)|pxl_.*|library(_id)?|sample(_id)?|total_counts")
VAR_COLUMNS = re.compile(r"(?i)feature_?types?|genome|.*(symbol|name).*")
THUMBNAIL = "downscaled_fullres"
CLEANED = "n_barcodes_cleaned"
SAMPLED_VALUES = 1_000_000  # of a layer, to see whether it holds counts


def read_counts(path: str | Path) -> AnnData:
    """Read the counts of a sample, without a check of their values.

    Layers, ``raw``, ``obsp``, ``varm`` and columns that are not used stay on disk. Names of spots and features are
    stripped text, "" where missing, whatever type they are stored in.

    Returns
    -------
    AnnData
        X, ``obs`` and ``var`` with `OBS_COLUMNS` and `VAR_COLUMNS`, ``obsm["spatial"]`` as stored, and of ``uns``
        single values, the thumbnails and scale factors in ``spatial``, and the number of barcodes in `CLEANED` that
        had blanks around them or were bytes written as text.

    Raises
    ------
    InputError
        The file cannot be opened, is damaged or not AnnData, or lacks X or ``obsm["spatial"]``.
    """
    path = Path(path)
    with open_input(path, EXPECTED) as file, warnings.catch_warnings():
        # genes are summed and repeated barcodes refused later, and old formats are as good
        warnings.filterwarnings("ignore", message=".*(names are not unique|without encoding metadata)")
        try:
            _check_parts(path, file)
            obs, n_cleaned = _table(path, file, "obs", OBS_COLUMNS)
            var, _ = _table(path, file, "var", VAR_COLUMNS)
            coordinates = _coordinates(path, file, obs.index)
            uns = _uns(file) | {CLEANED: n_cleaned}
            return AnnData(X=read_elem(file["X"]), obs=obs, var=var, obsm={SPATIAL: coordinates}, uns=uns)
        except (InputError, SetupError, MemoryError, OSError, RuntimeError):
            raise
        except Exception as error:  # anndata raises KeyError, ValueError and others for a damaged file
            raise InputError(path, "file", f"contents that cannot be read ({first_line(error)})", EXPECTED) from None


def _check_parts(path: Path, file: h5py.File) -> None:
    for member, (name, remedy) in OTHER_FORMATS.items():
        if member in file and "X" not in file:
            raise InputError(path, "file", name, f"an .h5ad; write it with {remedy}")
    if "X" not in file or file["X"].attrs.get("encoding-type") == "null":
        raise InputError(path, "X", "nothing", f"raw counts, spots x genes{counts_elsewhere(path)}")
    if getattr(file.get("X/data"), "dtype", None) == np.float16:  # which scipy does not know
        raise InputError(path, "X", "sparse values of type float16", "raw counts as float32, or dense")
    for part in ("obs", "var"):
        if part not in file:
            raise InputError(path, part, "nothing", "an .h5ad with X, obs, var and obsm/spatial")
    known = _names(file.get("obsm"))
    if SPATIAL not in known:
        others = [name for name in known if SPATIAL in name.lower()]
        remedy = f'; rename it: adata.obsm["{SPATIAL}"] = adata.obsm["{others[0]}"]' if others else ""
        found = f"only {', '.join(known[:9])}" if known else "nothing"
        raise InputError(path, f"obsm/{SPATIAL}", found, f"spot centres (x, y) in level-0 pixels{remedy}")


def _names(element: h5py.Group | h5py.Dataset | None) -> Sequence[str]:
    """List the members of a group, or the fields of a compound dataset as AnnData 0.6 writes it."""
    return list(element) if isinstance(element, h5py.Group) else getattr(element, "dtype", np.dtype("i")).names or []


def _table(path: Path, file: h5py.File, part: str, wanted: re.Pattern) -> tuple[pd.DataFrame, int]:
    """Read the index and some columns of ``obs`` or ``var``, and count the names that were cleaned."""
    stored = file[part]
    legacy = isinstance(stored, h5py.Dataset)  # AnnData before 0.7
    names = _names(stored)
    if legacy:
        index = "index" if "index" in names else names[0]
    else:
        index = str(np.ravel(stored.attrs.get("_index", "_index"))[0])
    if index not in names:
        raise InputError(path, f"{part} index", "nothing", "a name for every row")
    try:
        names_read = list(stored[index] if legacy else read_elem(stored[index]))
        labels = clean_labels(names_read)
    except UnicodeDecodeError:
        raise InputError(path, f"{part} index", "bytes that are not UTF-8", "names in UTF-8") from None
    read = _legacy_column if legacy else _column
    ordered = names if legacy else [str(name) for name in np.ravel(stored.attrs.get("column-order", names))]
    wanted_names = [name for name in ordered if name in names and name != index and wanted.fullmatch(name)]
    columns = {name: read(file, stored, name) for name in wanted_names}
    n_cleaned = sum(isinstance(name, str) and name != label for name, label in zip(names_read, labels, strict=True))
    return pd.DataFrame(columns, index=pd.Index(labels, dtype=object)), n_cleaned


def _column(_: h5py.File, table: h5py.Group, name: str) -> object:
    stored = table[name]
    values = read_elem(stored)
    if "categories" in stored.attrs:  # AnnData 0.7
        return pd.Categorical.from_codes(values, read_elem(table[stored.attrs["categories"]]))
    return values


def _legacy_column(file: h5py.File, table: h5py.Dataset, name: str) -> object:
    values = table[name]
    if (categories := f"uns/{name}_categories") in file:
        labels = [*clean_labels(np.ravel(file[categories][()])), ""]
        return [labels[code] for code in values]
    return clean_labels(values) if values.dtype.kind in "SO" else values


def _coordinates(path: Path, file: h5py.File, barcodes: pd.Index) -> np.ndarray | pd.DataFrame:
    stored = file["obsm"][SPATIAL]
    spatial = stored if isinstance(stored, np.ndarray) else read_elem(stored)
    if isinstance(spatial, pd.DataFrame):
        if clean_labels(spatial.index) != barcodes.tolist():
            raise InputError(path, f'obsm["{SPATIAL}"]', "an index that differs from the barcodes", "the same index")
        return spatial.set_axis(barcodes)
    return spatial.toarray() if sparse.issparse(spatial) else spatial


def _uns(file: h5py.File) -> dict:
    """Read single values, and the libraries in ``spatial`` as far as they have the usual form."""
    stored = file.get("uns")
    if not isinstance(stored, h5py.Group):
        return {}
    uns = _single_values(stored)
    uns.pop(SPATIAL, None)
    libraries = stored.get(SPATIAL)
    if isinstance(libraries, h5py.Group):
        uns[SPATIAL] = {name: _library(one) for name, one in libraries.items() if isinstance(one, h5py.Group)}
    return uns


def _single_values(group: h5py.Group) -> dict:
    scalars = {key: item for key, item in group.items() if isinstance(item, h5py.Dataset) and item.size == 1}
    values = {key: np.ravel(item[()])[0] for key, item in scalars.items() if item.dtype.kind in "biufSO"}
    return {key: value.decode(errors="replace") if isinstance(value, bytes) else value for key, value in values.items()}


def _library(stored: h5py.Group) -> dict:
    library = {}
    if isinstance(factors := stored.get("scalefactors"), h5py.Group):
        library["scalefactors"] = _single_values(factors)
    if isinstance(pictures := stored.get("images"), h5py.Group) and THUMBNAIL in pictures:
        picture = pictures[THUMBNAIL]
        if isinstance(picture, h5py.Dataset) and picture.dtype == np.uint8 and picture.ndim in (2, 3) and picture.size:
            library["images"] = {THUMBNAIL: picture[()]}
    return library


def thumbnail(adata: AnnData) -> Image.Image | None:
    """Return the slide's thumbnail in ``uns["spatial"]``, grey or in colour, if there is one."""
    libraries = adata.uns.get(SPATIAL)
    for library in libraries.values() if isinstance(libraries, Mapping) else ():
        images = library.get("images") if isinstance(library, Mapping) else None
        picture = np.asarray(images.get(THUMBNAIL) if isinstance(images, Mapping) else None)
        if picture.ndim == 3 and picture.shape[2] == 1:
            picture = picture[:, :, 0]
        if picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4)):
            return Image.fromarray(picture).convert("RGB")
    return None


def counts_elsewhere(path: str | Path) -> str:
    """Name the first of ``raw`` and the layers that holds counts, with the remedy, "" without any."""
    if not Path(path).is_file():
        return ""
    with open_input(path, EXPECTED) as file:
        places = {
            "raw/X": "adata.raw.X holds counts: save adata.raw.to_adata()",
            "raw.X": "adata.raw.X holds counts: save adata.raw.to_adata()",
        }
        for name in _names(file.get("layers")):
            places[f"layers/{name}"] = (
                f'layers["{name}"] holds counts: set adata.X = adata.layers["{name}"] and save the file'
            )
        return next(
            (f"; {remedy}" for place, remedy in places.items() if place in file and _holds_counts(file[place])), ""
        )


def _holds_counts(matrix: h5py.Group | h5py.Dataset) -> bool:
    """Look at the first values of a matrix, dense or sparse."""
    values = matrix.get("data") if isinstance(matrix, h5py.Group) else matrix
    if getattr(values, "ndim", 0) not in (1, 2) or values.dtype.kind not in "iuf":
        return False
    try:
        values = values[: SAMPLED_VALUES // max(1, values.shape[-1] if values.ndim == 2 else 1)]
    except OSError:
        return False  # a damaged layer is no remedy
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(values) & (values >= 0) & (values == np.floor(values))
    return bool(whole.all() and values.size and values.max() > 1)
