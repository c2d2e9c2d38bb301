"""The array of spots on a slide: its pitch, and the row and column of each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy  # loads a subpackage when it is used

from spotwise.constants import SPATIAL

if TYPE_CHECKING:
    from anndata import AnnData

FEWEST_ON_ARRAY = 10  # spots that tell a staggered array from a square one
MANY_SPOTS = 20_000  # are enough to tell a grid; Visium HD has millions of bins
FEWEST_NEIGHBOURS = 2.5  # of a spot on average; 4 within a square grid, 6 within a staggered one, and fewer at its edge


def spot_pitch(spatial: np.ndarray) -> float:
    """Compute the median distance from a spot to its nearest spot.

    It has the unit of the centres (N, 2), is infinite for one spot, and 0 if most spots coincide with another.
    """
    distances, _ = scipy.spatial.KDTree(spatial).query(spatial, k=[2])
    return float(np.median(distances))


def is_regular(spatial: np.ndarray) -> bool:
    """Tell whether the centres (N, 2) are a grid without many gaps, unlike cells and a few spots of an array."""
    tree = scipy.spatial.KDTree(spatial)
    some = spatial[:: max(1, len(spatial) // MANY_SPOTS)]
    distances, _ = tree.query(some, k=[2])
    low, middle, high = np.quantile(distances, [0.1, 0.5, 0.9])
    neighbours = tree.query_ball_point(some, 1.25 * middle, return_length=True) - 1
    return bool(high - low <= middle / 2 and neighbours.mean() >= FEWEST_NEIGHBOURS)


def array_pitch(adata: AnnData) -> float | None:
    """Compute the distance between neighbouring positions of the array in the unit of the centres.

    Unlike `spot_pitch` it does not depend on how many spots are there. It is None if there are no positions, or if the
    centres do not follow them.
    """
    position = _stored_positions(adata)
    if position is None or len(position) < FEWEST_ON_ARRAY or not np.array_equal(position, position.round()):
        return None
    centres = np.asarray(adata.obsm[SPATIAL], dtype=np.float64)
    design = np.column_stack([position, np.ones(len(position))])
    fit, _, rank, _ = np.linalg.lstsq(design, centres)
    if rank < design.shape[1]:
        return None
    row, column = fit[:2]  # (2,) from one row, and from one column, to the next
    # Visium's rows are shifted by half a step; positions of merged bins may be even in both directions
    staggered = np.ptp(position.sum(axis=1) % 2) == 0 and np.ptp(position % 2, axis=0).all()
    steps = (row + column, row - column, 2 * column, 2 * row) if staggered else (row, column)
    pitch = float(min(np.linalg.norm(step) for step in steps))
    scatter = np.sqrt(((design @ fit - centres) ** 2).sum(axis=1).mean())
    return pitch if scatter < pitch / 4 else None


def _stored_positions(adata: AnnData) -> np.ndarray | None:
    """Return ``array_row`` and ``array_col`` (N, 2) float64 if they are numbers."""
    try:
        position = adata.obs[["array_row", "array_col"]].to_numpy(dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None  # no such columns, or text in them
    return position if np.isfinite(position).all() else None


def array_positions(adata: AnnData) -> np.ndarray:
    """Return row and column (N, 2) int64 of each spot, from 0.

    Taken from ``obs["array_row"]`` and ``obs["array_col"]`` if these are numbers, otherwise from the spot centres in
    units of the pitch.
    """
    position = _stored_positions(adata)
    if position is not None:
        return (position - position.min(axis=0)).round().astype(np.int64)
    centres = np.asarray(adata.obsm[SPATIAL], dtype=np.float64)[:, ::-1]  # the row is y
    return ((centres - centres.min(axis=0)) / (spot_pitch(centres) or 1.0)).round().astype(np.int64)
