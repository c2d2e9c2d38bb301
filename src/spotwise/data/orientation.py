"""The orientation of the spots on the slide: whether they would lie better on the tissue if mirrored or turned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from spotwise.data.spot_array import spot_pitch
from spotwise.data.tissue import tissue_mask

AS_GIVEN = "as given"
# Where a spot at (x, y) on a slide of width w and height h would lie
ORIENTATIONS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]] = {
    AS_GIVEN: lambda x, y, w, h: (x, y),
    "mirrored left to right": lambda x, y, w, h: (w - x, y),
    "mirrored top to bottom": lambda x, y, w, h: (x, h - y),
    "turned by 180 degrees": lambda x, y, w, h: (w - x, h - y),
    "with x and y exchanged": lambda x, y, w, h: (y, x),
    "turned clockwise by 90 degrees": lambda x, y, w, h: (w - y, x),
    "turned counterclockwise by 90 degrees": lambda x, y, w, h: (y, h - x),
    "with x and y exchanged and turned by 180 degrees": lambda x, y, w, h: (w - y, h - x),
}
# By which share of spots another orientation has to be better, the second if all its spots are on tissue, and by how
# many standard errors. As given, .99 of her2st's spots and more lie on tissue, exchanged at most .85.
CLEAR_MARGIN, SMALL_MARGIN, ALL_SPOTS, STANDARD_ERRORS = 0.1, 0.05, 0.98, 3.0
MOST_TISSUE, LEAST_TISSUE = 0.9, 0.005  # of a picture; without glass, or without tissue, it tells nothing
LEAST_ON_TISSUE = 0.5  # of the spots; below, qc.json warns
# A file may hold the whole array: spots of tissue have this share of the counts that a tenth of the spots exceed
LEAST_COUNTS, MANY_COUNTS_QUANTILE = 0.1, 0.9
WINDOW_PITCHES = 0.5  # edge of the window in which tissue is averaged, about the diameter of a spot
ASPECT_TOLERANCE = 0.02  # of a picture that shows the whole slide


def on_tissue(
    spatial: np.ndarray, counts: np.ndarray, picture: Image.Image, slide_size: tuple[int, int]
) -> tuple[dict[str, float], list[str]]:
    """Compute the share of spots on tissue in the eight orientations of the spots.

    Parameters
    ----------
    spatial, counts
        Spot centres (N, 2) in level-0 pixels, and counts (N,) of the spots; those with few are left out.
    picture
        Of the whole slide, in any size.
    slide_size
        Width and height in level-0 pixels.

    Returns
    -------
    shares
        Share for each of `ORIENTATIONS`, empty if the picture cannot tell.
    warnings
        That another orientation is better by a clear margin, or that few spots lie on tissue.
    """
    spots = spatial[counts >= LEAST_COUNTS * np.quantile(counts, MANY_COUNTS_QUANTILE)]
    aspect = picture.width / picture.height * slide_size[1] / slide_size[0]
    if len(spots) < 2 or abs(aspect - 1) > ASPECT_TOLERANCE:
        return {}, []
    mask = tissue_mask(picture, WINDOW_PITCHES * spot_pitch(spots) / slide_size[0])
    if not LEAST_TISSUE <= mask.mean() <= MOST_TISSUE:
        return {}, []
    lies = {name: _on_mask(moved(*spots.T, *slide_size), mask, slide_size) for name, moved in ORIENTATIONS.items()}
    shares = {name: float(on.mean()) for name, on in lies.items()}
    best = max(shares, key=shares.__getitem__)
    gain = lies[best].astype(float) - lies[AS_GIVEN]
    margin = SMALL_MARGIN if shares[best] >= ALL_SPOTS else CLEAR_MARGIN
    margin = max(margin, STANDARD_ERRORS * float(gain.std()) / np.sqrt(len(gain)))
    warnings = []
    if gain.mean() > margin:
        warnings.append(
            f"{shares[AS_GIVEN]:.0%} of the spots lie on tissue, but {shares[best]:.0%} would, {best}: "
            "check the axes of the coordinates and the orientation of the slide"
        )
    elif shares[AS_GIVEN] < LEAST_ON_TISSUE:
        warnings.append(f"only {shares[AS_GIVEN]:.0%} of the spots lie on tissue: check coordinates and slide")
    return shares, warnings


def _on_mask(centres: tuple[np.ndarray, np.ndarray], mask: np.ndarray, slide_size: tuple[int, int]) -> np.ndarray:
    """Tell which centres lie on the mask (N,); none does beyond the slide."""
    height, width = mask.shape
    column, row = (
        np.floor(axis * cells / size).astype(np.int64)
        for axis, cells, size in zip(centres, (width, height), slide_size, strict=True)
    )
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    on = np.zeros(len(column), dtype=bool)
    on[inside] = mask[row[inside], column[inside]]
    return on
