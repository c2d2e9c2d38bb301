"""Spots on a slide that was never sequenced: a grid on its tissue, or centres chosen by the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from spotwise.constants import PATCH_UM, SPATIAL
from spotwise.data.barcodes import clean_labels
from spotwise.data.patches import patch_corners
from spotwise.data.spot_array import array_positions, spot_pitch
from spotwise.errors import InputError, first_line, one_of
from spotwise.runtime.files import SEPARATORS
from spotwise.runtime.hdf5 import write_anndata
from spotwise.runtime.input_files import known_content, unreadable

HEXAGONAL, SQUARE, DENSE = "hexagonal", "square", "dense"
LAYOUTS = (HEXAGONAL, SQUARE, DENSE)
DENSE_PITCH_UM = PATCH_UM / 2  # patches overlap by half
LEAST_TISSUE = 0.5  # share of a patch
MAX_SPOTS = 1_000_000
_CENTRES = "a CSV with the columns x and y in pixels of the slide's level 0"


def place_spots(
    tissue: shapely.MultiPolygon,
    um_per_px: float,
    layout: str,
    pitch_um: float,
    size: tuple[int, int],
    source: object = "slide",
    least_tissue: float = LEAST_TISSUE,
) -> pd.DataFrame:
    """Place a grid of spots on the slide, and keep those whose patch is mostly tissue.

    Parameters
    ----------
    tissue
        Polygons in level-0 pixels.
    um_per_px
        Size of these pixels.
    layout, pitch_um
        ``hexagonal`` as Visium, with rows shifted by half a pitch and columns counted in half pitches; ``square``; or
        ``dense``, square at half the side of a patch whatever the pitch.
    size
        Width and height of the slide in pixels. Patches that reach beyond it are left out.
    source
        Slide for messages.
    least_tissue
        Share of a patch that has to be tissue.

    Returns
    -------
    DataFrame
        Columns ``array_row``, ``array_col``, ``x``, ``y`` and ``tissue_share``, indexed by ``{row}x{column}``.

    Raises
    ------
    InputError
        No patch is mostly tissue, or there are more than `MAX_SPOTS` positions.
    """
    pitch_px = grid_pitch(layout, pitch_um) / um_per_px
    spots = _grid(layout, pitch_px, PATCH_UM / um_per_px, size, source)
    spots["tissue_share"] = tissue_shares(tissue, spots[["x", "y"]].to_numpy(), um_per_px)
    spots = spots[spots["tissue_share"] >= least_tissue]
    if spots.empty:
        found = f"no patch of {PATCH_UM} um that is {least_tissue:.0%} tissue"
        raise InputError(source, "tissue", found, "a piece of tissue wider than a patch within the slide")
    spots.index = [f"{row}x{column}" for row, column in zip(spots["array_row"], spots["array_col"], strict=True)]
    return spots


def grid_pitch(layout: str, pitch_um: float) -> float:
    """Return the distance in um between neighbouring spots of a layout, or raise `InputError`."""
    if layout not in LAYOUTS:
        raise InputError("grid", "layout", layout, one_of(LAYOUTS, layout))
    return DENSE_PITCH_UM if layout == DENSE else pitch_um


def _grid(layout: str, pitch: float, patch: float, size: tuple[int, int], source: object) -> pd.DataFrame:
    """Lay a grid on a slide of ``size``, its first spot half a patch from the corner; lengths are in pixels."""
    across, down = (pitch / 2, pitch * math.sqrt(3) / 2) if layout == HEXAGONAL else (pitch, pitch)
    # half a pixel of room for corners that are rounded to whole pixels
    n_columns, n_rows = (
        max(0, math.floor((edge - patch - 1) / step) + 1) for edge, step in zip(size, (across, down), strict=True)
    )
    if n_columns * n_rows > MAX_SPOTS * (2 if layout == HEXAGONAL else 1):
        raise InputError("grid", "pitch_um", f"{n_columns} x {n_rows} positions on {source}", f"at most {MAX_SPOTS:,}")
    row, column = (index.ravel() for index in np.indices((n_rows, n_columns)))
    if layout == HEXAGONAL:
        kept = (row + column) % 2 == 0
        row, column = row[kept], column[kept]
    x, y = ((patch + 1) / 2 + index * step for index, step in ((column, across), (row, down)))
    return pd.DataFrame({"array_row": row, "array_col": column, "x": x, "y": y})


def tissue_shares(tissue: shapely.MultiPolygon, centres: np.ndarray, um_per_px: float) -> np.ndarray:
    """Compute the share of tissue (N,) in the patches around centres (N, 2) in level-0 pixels."""
    corners, edge = patch_corners(centres, um_per_px)
    boxes = shapely.box(*corners.T, *(corners + edge).T)
    shares = np.zeros(len(boxes))
    for part in tissue.geoms:
        shapely.prepare(part)
        near = np.flatnonzero(shapely.intersects(part, boxes))
        whole = shapely.covers(part, boxes[near])
        shares[near[whole]] += 1
        cut = near[~whole]
        shares[cut] += [shapely.clip_by_rect(part, *box.bounds).area / edge**2 for box in boxes[cut]]
    return np.minimum(shares, 1.0)


def read_centres(
    path: Path, tissue: shapely.MultiPolygon, um_per_px: float, size: tuple[int, int]
) -> tuple[pd.DataFrame, list[str]]:
    """Read the user's spot centres, a CSV or TSV with ``x`` and ``y`` in level-0 pixels.

    Optional columns are ``barcode``, and ``array_row`` with ``array_col``. Spots outside the slide and repeated places
    are dropped and counted; spots off the tissue are kept.

    Returns
    -------
    tuple
        Table as from `place_spots`, and warnings.

    Raises
    ------
    InputError
        The file or a column is missing, a value is no number, a barcode is repeated, or no spot lies on the slide.
    """
    path = Path(path)
    table = _read_table(path)
    spots = pd.DataFrame({axis: _numbers(path, table, axis) for axis in ("x", "y")})
    for name in ("array_row", "array_col"):
        if {"array_row", "array_col"} <= set(table.columns):
            spots[name] = _whole(path, _numbers(path, table, name), name)
    if "barcode" in table:
        spots.index = _barcodes(path, table["barcode"])
    spots, warnings = _placed(path, spots, size)
    if "array_row" not in spots:
        positions = _positions(spots)
        spots["array_row"], spots["array_col"] = positions.T
    if "barcode" not in table:
        names = [f"{row}x{column}" for row, column in zip(spots["array_row"], spots["array_col"], strict=True)]
        spots.index = names if len(set(names)) == len(names) else [str(number) for number in range(len(names))]
    spots["tissue_share"] = tissue_shares(tissue, spots[["x", "y"]].to_numpy(), um_per_px)
    if n_off := int((spots["tissue_share"] < LEAST_TISSUE).sum()):
        warnings.append(f"{n_off} of {len(spots)} spots in {path} are less than half on tissue, and are kept")
    return spots[["array_row", "array_col", "x", "y", "tissue_share"]], warnings


def _read_table(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise unreadable(path, "spots", error, _CENTRES) from None
    try:
        table = pd.read_csv(
            path, sep=SEPARATORS.get(path.suffix.lower(), ","), dtype=str, encoding="utf-8-sig", keep_default_na=False
        )
    except ValueError as error:  # also of pandas' parser, and of bytes that are not UTF-8
        found, remedy = known_content(head) or (f"no table ({first_line(error)})", "")
        raise InputError(path, "spots", found, f"{_CENTRES}; {remedy}" if remedy else _CENTRES) from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus first cells for names of the rows
        raise InputError(path, "columns", f"more cells in a row than the {table.shape[1]} in the header", _CENTRES)
    table.columns = [str(name).strip().lower() for name in table.columns]
    for name in ("x", "y"):
        if list(table.columns).count(name) != 1:
            raise InputError(path, "columns", ", ".join(table.columns)[:120], _CENTRES)
    if table.empty:
        raise InputError(path, "spots", "no rows", "one row per spot")
    return table


def _numbers(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        found = f"{table[name].iloc[wrong[0]]!r} in row {wrong[0] + 1}"
        raise InputError(path, name, found, f"a number in each of the {len(table)} rows")
    return values


def _whole(path: Path, values: np.ndarray, name: str) -> np.ndarray:
    if (values != np.round(values)).any():
        raise InputError(path, name, f"{values[values != np.round(values)][0]:g}", "whole numbers")
    return values.astype(np.int64)


def _barcodes(path: Path, barcodes: pd.Series) -> pd.Index:
    named = pd.Series(clean_labels(barcodes.fillna("")))
    if (named == "").any():
        raise InputError(path, "barcode", f"none in row {int((named == '').argmax()) + 1}", "a barcode in each row")
    if named.duplicated().any():
        raise InputError(path, "barcode", f"{named[named.duplicated()].iloc[0]!r} twice", "each barcode once")
    return pd.Index(named, name=None)


def _placed(path: Path, spots: pd.DataFrame, size: tuple[int, int]) -> tuple[pd.DataFrame, list[str]]:
    """Drop spots outside the slide, and those at the place of an earlier one."""
    inside = ((spots[["x", "y"]] >= 0) & (spots[["x", "y"]] < size)).all(axis=1)
    if not inside.any():
        first = spots.iloc[0]
        found = f"no spot on the slide, the first at ({first['x']:g}, {first['y']:g})"
        raise InputError(path, "spots", found, f"x below {size[0]} and y below {size[1]}: pixels of level 0")
    warnings = []
    if n_outside := int((~inside).sum()):
        warnings.append(f"{n_outside} of {len(spots)} spots in {path} lie outside the slide, and are dropped")
    kept = spots[inside]
    repeated = kept.duplicated(["x", "y"])
    if n_repeated := int(repeated.sum()):
        warnings.append(f"{n_repeated} of {len(spots)} spots in {path} share their place with another, and are dropped")
    return kept[~repeated].copy(), warnings


def _positions(spots: pd.DataFrame) -> np.ndarray:
    """Estimate row and column (N, 2) of centres that come without."""
    import anndata

    if len(spots) == 1:
        return np.zeros((1, 2), dtype=np.int64)
    return array_positions(anndata.AnnData(obsm={SPATIAL: spots[["x", "y"]].to_numpy()}, shape=(len(spots), 0)))


def centres_pitch(spots: pd.DataFrame, um_per_px: float) -> float:
    """Compute the distance in um between neighbouring centres, the side of a patch if there is one alone."""
    return spot_pitch(spots[["x", "y"]].to_numpy()) * um_per_px if len(spots) > 1 else float(PATCH_UM)


def write_spots(spots: pd.DataFrame, pitch_um: float, path: Path, warnings: Sequence[str] = ()) -> None:
    """Write a table of spots as an AnnData without genes.

    It has ``obs`` with ``array_row``, ``array_col``, ``in_tissue`` and ``tissue_share``, the centres in level-0 pixels
    in ``obsm["spatial"]``, ``uns["spot_pitch_um"]``, and ``uns["warnings"]``, what was odd about the user's spots.
    """
    import anndata

    obs = spots[["array_row", "array_col", "tissue_share"]].copy()
    obs.insert(2, "in_tissue", 1)
    centres = spots[["x", "y"]].to_numpy(dtype=np.float64)
    uns = {"spot_pitch_um": float(pitch_um), "warnings": np.array(warnings, dtype=str)}
    content = anndata.AnnData(np.empty((len(obs), 0), dtype=np.float32), obs=obs, obsm={SPATIAL: centres}, uns=uns)
    write_anndata(path, content)
