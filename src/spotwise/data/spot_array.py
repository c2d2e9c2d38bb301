"""The array of spots on a slide: its pitch, and the row and column of each spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy  # loads a subpackage when it is used

from spotwise.constants import SPATIAL

if TYPE_CHECKING:
    from anndata import AnnData


def spot_pitch(spatial: np.ndarray) -> float:
    """Compute the median distance from a spot to its nearest spot.

    It has the unit of the centres (N, 2), is infinite for one spot, and 0 if most spots coincide with another.
    """
    distances, _ = scipy.spatial.KDTree(spatial).query(spatial, k=[2])
    return float(np.median(distances))


def array_positions(adata: AnnData) -> np.ndarray:
    """Return row and column (N, 2) int64 of each spot, from 0.

    Taken from ``obs["array_row"]`` and ``obs["array_col"]`` if these are numbers, otherwise from the spot centres in
    units of the pitch.
    """
    try:
        position = adata.obs[["array_row", "array_col"]].to_numpy(dtype=np.float64)
        if np.isfinite(position).all():
            return (position - position.min(axis=0)).round().astype(np.int64)
    except (KeyError, ValueError):
        pass  # no such columns, or text in them
    centres = np.asarray(adata.obsm[SPATIAL], dtype=np.float64)[:, ::-1]  # the row is y
    return ((centres - centres.min(axis=0)) / (spot_pitch(centres) or 1.0)).round().astype(np.int64)
