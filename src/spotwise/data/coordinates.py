"""Coordinates of the spots: their form, contradictions within the file, and whether they lie on the slide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used

from spotwise.constants import SPATIAL
from spotwise.data.spot_array import spot_pitch
from spotwise.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

ERROR, DROP = "error", "drop"  # values of `expression.outside`
MAX_OUTSIDE_SHARE = 0.1  # of the spots may be dropped; more off the slide mean a wrong scale

# Names of x and y in a table, lower case: our own, Space Ranger's, its short form, and Seurat's
PIXEL_COLUMNS = (("pxl_col_in_fullres", "pxl_row_in_fullres"), ("pxl_col", "pxl_row"))
NAMED_AXES = (("x", "y"), *PIXEL_COLUMNS, ("imagecol", "imagerow"))
LIBRARY_COLUMNS = ("library_id", "library", "sample", "sample_id")

TOLERANCE_PX = 1.5  # of two copies of a coordinate, one of which may be rounded
MAX_SCALE = 1.5  # between two sources of a scale; a larger factor is an error of units
SPACE_RANGER_BARCODE = re.compile(r"[ACGT]{16}(-\d+)?$")
# What tells the slides of a file apart in its barcodes: all but the sequence, or a number at the end
SEQUENCE, LIBRARY_SUFFIX = re.compile(r"[ACGT]{10,}"), re.compile(r"-\d+$")
# Spots of one array keep their pitch; of two arrays on top of each other, most have a neighbour nearer than this share
OVERLAID_PITCH = 0.6
OVERLAID_SHARE, SMALLEST_LIBRARY = 0.1, 5

FIELD = f'obsm["{SPATIAL}"]'


def spot_centres(adata: AnnData, source: object) -> np.ndarray:
    """Read the spot centres (N, 2) float64, x and y in level-0 pixels.

    A table in ``obsm["spatial"]`` is read by the names of its columns, see `NAMED_AXES`.

    Raises
    ------
    InputError
        Coordinates are missing, no numbers, not finite, or the same for all spots, or columns have unknown names.
    """
    if SPATIAL not in adata.obsm:
        raise InputError(source, FIELD, "nothing", "spot centres (x, y) in level-0 pixels")
    spatial = adata.obsm[SPATIAL]
    if isinstance(spatial, pd.DataFrame):
        spatial = _by_name(spatial, source)
    spatial = np.asarray(spatial)
    if spatial.ndim != 2 or spatial.shape[1] != 2:
        raise InputError(source, FIELD, f"shape {spatial.shape}", f"({adata.n_obs}, 2): x and y of every spot")
    if spatial.dtype.kind not in "iuf":
        raise InputError(source, FIELD, f"values of type {spatial.dtype}", "numbers")
    spatial = spatial.astype(np.float64)
    finite = np.isfinite(spatial).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        found = f"{_point(spatial[row])} at spot {adata.obs_names[row]!r}"
        raise InputError(source, FIELD, found, "finite coordinates")
    if len(spatial) > 1 and (spatial == spatial[0]).all():
        found = f"all {len(spatial)} spots at {_point(spatial[0])}"
        raise InputError(source, FIELD, found, "different coordinates for different spots")
    return spatial


def _by_name(table: pd.DataFrame, source: object) -> np.ndarray:
    """Return x and y (N, 2) of a table, whatever the order of its columns."""
    columns = {str(name).strip().lower(): name for name in table.columns}
    pairs = [pair for pair in NAMED_AXES if set(pair) <= set(columns)]
    if len(pairs) != 1 or len(columns) != table.shape[1]:
        expected = "one pair of columns named " + ", ".join(f"{x}/{y}" for x, y in NAMED_AXES)
        raise InputError(source, FIELD, f"columns {', '.join(map(str, table.columns))}", expected)
    axes = table[[columns[name] for name in pairs[0]]]
    if not all(pd.api.types.is_numeric_dtype(dtype) and dtype.kind in "iuf" for dtype in axes.dtypes):
        raise InputError(source, FIELD, f"columns of type {', '.join(map(str, axes.dtypes))}", "numbers")
    return axes.to_numpy(dtype=np.float64, na_value=np.nan)


def compare_with_obs(spatial: np.ndarray, adata: AnnData, source: object) -> list[str]:
    """Compare the spot centres (N, 2) with Space Ranger's columns in ``obs``.

    Scanpy and squidpy name the two columns of Space Ranger the wrong way round and put the axes right in ``obsm``. A
    file that kept these columns is therefore warned about, and so are spots that moved together. Any other
    contradiction above half a pitch is refused.

    Returns
    -------
    list of str
        Warnings.
    """
    pair = next((pair for pair in PIXEL_COLUMNS if set(pair) <= set(adata.obs.columns)), None)
    if pair is None:
        return []
    stated = adata.obs[list(pair)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(stated).all(axis=1)
    stated, centres = stated[known], spatial[known]
    if len(stated) < 2:
        return []
    names = f'obs["{pair[0]}"] and obs["{pair[1]}"]'
    if _same(centres, stated):
        return []
    if _same(centres, stated[:, ::-1]):
        if _named_by_scanpy(spatial, adata, pair):
            return [f"{names} are the y and x of {FIELD}, as scanpy and squidpy name them; {FIELD} is used"]
        remedy = f"(x, y), that is {pair[0]}, {pair[1]}: exchange the columns of {FIELD}, or rename those of obs"
        raise InputError(source, FIELD, f"the axes of {names} exchanged", remedy)
    remedy = f"the same coordinates in both: correct {FIELD}, or delete the columns from obs if it is right"
    factor = float((centres * stated).sum() / max((stated**2).sum(), 1.0))
    if factor > 0 and _same(centres, factor * stated, TOLERANCE_PX * max(1.0, factor)):
        found = f"{factor:.4g} times {names}{_named_scale(factor, adata.uns)}"
        if 1 / MAX_SCALE <= factor <= MAX_SCALE:
            return [f"{FIELD} holds {found}; {FIELD} is used"]
        raise InputError(source, FIELD, found, remedy)
    distance = float(np.median(np.linalg.norm(centres - stated, axis=1)))
    if distance > spot_pitch(spatial) / 2 and not _is_moved(centres, stated):
        raise InputError(source, FIELD, f"spots {distance:.0f} px (median) from {names}", remedy)
    return [f"{FIELD} is {distance:.0f} px (median) from {names}; {FIELD} is used"]


def _is_moved(centres: np.ndarray, stated: np.ndarray) -> bool:
    """Tell whether all spots moved together, as when a slide is cropped or aligned anew, and were not mirrored."""
    design = np.column_stack([stated, np.ones(len(stated))])
    fit, _, rank, _ = np.linalg.lstsq(design, centres)
    scatter = np.sqrt(((design @ fit - centres) ** 2).sum(axis=1).mean())
    area = np.linalg.det(fit[:2])
    return bool(rank == 3 and scatter < spot_pitch(centres) / 4 and MAX_SCALE**-2 <= area <= MAX_SCALE**2)


def _same(centres: np.ndarray, stated: np.ndarray, tolerance: float = TOLERANCE_PX) -> bool:
    return bool((np.abs(centres - stated) <= tolerance).all())


def _named_by_scanpy(spatial: np.ndarray, adata: AnnData, pair: tuple[str, str]) -> bool:
    """Tell whether ``obs`` comes from a reader that exchanges the names: Space Ranger's spots, column before row."""
    columns = list(adata.obs.columns)
    ordered = columns.index(pair[0]) < columns.index(pair[1])
    if not ordered or not all(SPACE_RANGER_BARCODE.match(name) for name in adata.obs_names):
        return False
    if "array_row" not in columns:
        return True
    row = pd.to_numeric(adata.obs["array_row"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(row)
    if known.sum() < 2:
        return True
    along_x, along_y = (abs(np.cov(row[known], axis)[0, 1]) for axis in spatial[known].T)
    return bool(along_y >= along_x)


def _named_scale(factor: float, uns: Mapping) -> str:
    """Name the scale factor of ``uns["spatial"]`` that explains a factor, if any."""
    for name, scale in scale_factors(uns).items():
        if name.startswith("tissue_") and np.isclose(factor, scale, rtol=0.01):
            return f" ({name} is {scale:.4g})"
    return ""


def scale_factors(uns: Mapping) -> dict[str, float]:
    """Return the numbers in ``scalefactors`` of the only library in ``uns["spatial"]``, whatever its form."""
    libraries = uns.get(SPATIAL)
    known = [one for one in libraries.values() if isinstance(one, Mapping)] if isinstance(libraries, Mapping) else []
    factors = known[0].get("scalefactors") if len(known) == 1 else None
    if not isinstance(factors, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in factors.items()
        if np.isscalar(value) and np.issubdtype(type(value), np.number) and np.isfinite(value) and value > 0
    }


def check_places(spatial: np.ndarray, adata: AnnData, kept: np.ndarray, source: object) -> None:
    """Raise `InputError` if kept spots (N,) share their place, as those of several slides in one file do."""
    places, names = spatial[kept], adata.obs_names[kept]
    _, place, n_spots = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    shared = n_spots[place.ravel()] > 1  # (N,)
    for name, groups in _libraries(adata.obs[kept]).items():
        several = shared.any() and (pd.Series(groups[shared]).groupby(place[shared]).nunique() > 1).any()
        if several or _overlaid(places, groups):
            labels = ", ".join(sorted(set(groups))[:4])
            found = f"spots of several slides on top of each other ({name}: {labels})"
            raise InputError(source, FIELD, found, "one slide per file: split it")
    if shared.any():
        here = np.flatnonzero(place == place[shared.argmax()])
        pair = " and ".join(repr(names[row]) for row in here[:2])
        found = f"{shared.sum()} spots that share their place, first {pair} at {_point(places[here[0]])}"
        raise InputError(source, FIELD, found, "one spot at a place, and one slide per file")


def _libraries(obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the labels (N,) by which a file may be told to hold several slides."""
    parts = [_part_of_library(name) for name in obs.index]
    labels = {f'obs["{name}"]': obs[name].astype(str).to_numpy() for name in LIBRARY_COLUMNS if name in obs}
    labels["parts of the barcodes"] = np.array(parts)
    return {name: groups for name, groups in labels.items() if len(set(groups)) > 1}


def _part_of_library(barcode: str) -> str:
    if SEQUENCE.search(barcode):
        return SEQUENCE.sub("*", barcode)
    suffix = LIBRARY_SUFFIX.search(barcode)
    return suffix[0] if suffix else ""


def _overlaid(spatial: np.ndarray, groups: np.ndarray) -> bool:
    """Tell whether groups (N,) of spots are arrays on top of each other."""
    names, sizes = np.unique(groups, return_counts=True)
    pitch = {
        name: spot_pitch(spatial[groups == name])
        for name, size in zip(names, sizes, strict=True)
        if size >= SMALLEST_LIBRARY
    }
    if len(pitch) < 2:
        return False
    distance, nearest = scipy.spatial.KDTree(spatial).query(spatial, k=2)
    own = np.array([pitch.get(name, 0.0) for name in groups])
    crossed = (groups[nearest[:, 1]] != groups) & (distance[:, 1] < OVERLAID_PITCH * own)
    return bool(crossed.mean() > OVERLAID_SHARE)


def on_slide(
    spatial: np.ndarray,
    slide_size: tuple[int, int] | None,
    barcodes: pd.Index,
    outside: str,
    source: object,
    empty: np.ndarray | None = None,
) -> np.ndarray:
    """Return which spots lie on the slide (N,), if the others may be dropped.

    Spots of the array beyond the picture, ``empty`` (N,) of counts and off the tissue, are dropped whatever their
    number: a raw matrix holds all spots of the array.
    """
    size = np.array(slide_size or (np.inf, np.inf))
    inside = ((spatial >= 0) & (spatial < size)).all(axis=1)
    counted = np.ones(len(inside), dtype=bool) if empty is None else ~empty
    wrong = np.flatnonzero(~inside & counted)
    within_limit = len(wrong) <= MAX_OUTSIDE_SHARE * counted.sum()
    if len(wrong) == 0 or (outside == DROP and within_limit):
        return inside
    row = int(wrong[0])
    found = f"{len(wrong)} of {counted.sum()} spots off the slide, first {barcodes[row]!r} at {_point(spatial[row])}"
    expected = f"x below {size[0]} and y below {size[1]}, none negative" if slide_size else "no negative coordinates"
    if ((spatial[counted] >= 0) & (spatial[counted] < size[::-1])).all():
        expected += "; all spots would fit with x and y swapped"
    elif not inside[counted].any():
        expected += "; no spot fits: these may be pixels of another image, or another unit"
    elif within_limit:
        expected += f"; expression.outside: {DROP} would drop these spots"
    else:
        expected += f"; expression.outside: {DROP} drops at most {MAX_OUTSIDE_SHARE:.0%} of the spots: check the scale"
    raise InputError(source, FIELD, found, expected)


def _point(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"
