"""Coordinates of the spots: their form, and whether they lie on the slide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotwise.constants import SPATIAL
from spotwise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

ERROR, DROP = "error", "drop"  # values of `expression.outside`
MAX_OUTSIDE_SHARE = 0.1  # of the spots may be dropped; more off the slide mean a wrong scale


def spot_centres(adata: AnnData, source: object) -> np.ndarray:
    """Read the spot centres (N, 2) float64, x and y in level-0 pixels, or raise `InputError`."""
    field = f'obsm["{SPATIAL}"]'
    if SPATIAL not in adata.obsm:
        raise InputError(source, field, "nothing", "spot centres (x, y) in level-0 pixels")
    spatial = np.asarray(adata.obsm[SPATIAL])
    if spatial.ndim != 2 or spatial.shape[1] != 2:
        raise InputError(source, field, f"shape {spatial.shape}", f"({adata.n_obs}, 2): x and y of every spot")
    if spatial.dtype.kind not in "iuf":
        raise InputError(source, field, f"values of type {spatial.dtype}", "numbers")
    spatial = spatial.astype(np.float64)
    finite = np.isfinite(spatial).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        found = f"{_point(spatial[row])} at spot {adata.obs_names[row]!r}"
        raise InputError(source, field, found, "finite coordinates")
    if len(spatial) > 1 and (spatial == spatial[0]).all():
        found = f"all {len(spatial)} spots at {_point(spatial[0])}"
        raise InputError(source, field, found, "different coordinates for different spots")
    return spatial


def on_slide(
    spatial: np.ndarray, slide_size: tuple[int, int] | None, barcodes: pd.Index, outside: str, source: object
) -> np.ndarray:
    """Return which spots lie on the slide (N,), if the others may be dropped."""
    size = np.array(slide_size or (np.inf, np.inf))
    inside = ((spatial >= 0) & (spatial < size)).all(axis=1)
    n_outside = int((~inside).sum())
    if n_outside == 0 or (outside == DROP and n_outside <= MAX_OUTSIDE_SHARE * len(inside)):
        return inside
    row = int(np.flatnonzero(~inside)[0])
    found = f"{n_outside} of {len(inside)} spots off the slide, first {barcodes[row]!r} at {_point(spatial[row])}"
    expected = f"x below {size[0]} and y below {size[1]}, none negative" if slide_size else "no negative coordinates"
    if ((spatial >= 0) & (spatial < size[::-1])).all():
        expected += "; all spots would fit with x and y swapped"
    elif not inside.any():
        expected += "; no spot fits: these may be pixels of another image, or another unit"
    elif outside == DROP:
        expected += f"; expression.outside: {DROP} drops at most {MAX_OUTSIDE_SHARE:.0%} of the spots: check the scale"
    else:
        expected += f"; expression.outside: {DROP} would drop these spots"
    raise InputError(source, f'obsm["{SPATIAL}"]', found, expected)


def _point(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"
