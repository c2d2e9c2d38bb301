"""Stained tissue on the picture of a slide, told from glass, haze, ink and edges."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # loads a subpackage when it is used
from PIL import Image

# Glass is bright and nearly without colours; its median is the light that passes
_GLASS_BRIGHT, _GLASS_CHROMA, _GLASS_SHARE = 170, 60, 0.005
_NO_GLASS = 240.0  # where tissue covers the whole picture

# Evidence of tissue is the geometric mean of its colour and its texture, both in optical density. The haze of stain
# around a section has colour without texture, dust and edges of glass have texture without colour. Otsu's threshold is
# limited to what lies between the glass (below 0.016) and the palest tissue (fat, 0.02 to 0.03) of her2st.
_WINDOW_UM = 24.0  # standard deviation of the window in which colour and texture are averaged
_LOWEST, _HIGHEST = 0.018, 0.026
_SURE = 2.0  # times the threshold, which some part of a piece of tissue has to reach

# The window blurs the outline, which is trimmed by up to `_TRIM_UM` to pixels with colour of their own
_SHARP_UM, _STAINED, _TRIM_UM = 8.0, 0.04, 60.0

_OPEN_UM, _CLOSE_UM = 30.0, 60.0  # radii; a patch on a thinner strip would not be half tissue
LEAST_MM2 = 0.05  # of a piece, about four patches
_HOLE_MM2 = 0.05  # smaller holes, such as vessels and lumens, belong to the tissue
_EDGE_UM = 150.0  # width of the widest band along the slide's edge that is no tissue

# Ink, by the optical densities of red, green and blue. Haematoxylin and eosin absorb green most.
_INK_DENSITY = 0.25
_GREEN_INK = 0.85  # green absorbs less than this share of what red and blue do
_BLUE_INK = (1.25, 1.35)  # red absorbs more than these shares of what green does: everywhere, and somewhere
_RED_INK = (0.22, 0.7, 0.4)  # red below this share of green, blue above it, and green above this density
_BLACK_INK = (0.6, 1.35)  # every channel above this density, the ratio of the largest to the smallest below
_INK_OPEN_UM, _INK_RIM_UM = 40.0, 80.0  # thinnest radius of a stroke, and its blurred rim

PICTURE_UM = 8.0  # pixel size at which tissue is detected; finer pictures are reduced


class Detected(NamedTuple):
    """Masks (height, width) bool of a picture."""

    tissue: np.ndarray
    ink: np.ndarray


def detect_tissue(picture: Image.Image, um_per_px: float) -> Detected:
    """Find the tissue on an RGB picture of a slide.

    Parameters
    ----------
    picture
        Whole slide, reduced to pixels of `PICTURE_UM` if they are smaller.
    um_per_px
        Pixel size of the picture.

    Returns
    -------
    Detected
        Tissue without ink, and the ink of pens and black bands.
    """
    from skimage.filters import apply_hysteresis_threshold

    reduced = picture.copy()
    reduced.thumbnail([math.ceil(edge * um_per_px / PICTURE_UM) for edge in picture.size], Image.Resampling.BOX)
    um_per_px *= picture.width / reduced.width
    density = _optical_density(reduced)  # (height, width, 3)
    ink = _ink(density, um_per_px)
    chroma, density = np.ptp(density, axis=2), density.mean(axis=2)
    evidence = _evidence(chroma, density, um_per_px)
    evidence[ink] = 0
    threshold = float(np.clip(_otsu(evidence[~ink]) / 2, _LOWEST, _HIGHEST))
    stained = _blur(chroma, _SHARP_UM / um_per_px) > _STAINED
    region = apply_hysteresis_threshold(evidence, threshold, _SURE * threshold)
    return Detected(_pieces(region, stained, ink, um_per_px), ink)


def _optical_density(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture.convert("RGB"))
    bright = (pixels.min(axis=2) > _GLASS_BRIGHT) & (np.ptp(pixels, axis=2) < _GLASS_CHROMA)
    glass = np.median(pixels[bright], axis=0) if bright.mean() > _GLASS_SHARE else np.full(3, _NO_GLASS)
    return np.log10(glass.astype(np.float32) / np.maximum(pixels, 1))


def _evidence(chroma: np.ndarray, density: np.ndarray, um_per_px: float) -> np.ndarray:
    window = _WINDOW_UM / um_per_px
    texture = np.sqrt(np.maximum(_blur(density**2, window) - _blur(density, window) ** 2, 0))
    return np.sqrt(np.maximum(_blur(chroma, window), 0) * texture)


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(values, sigma, truncate=3)


def _otsu(values: np.ndarray) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values)) if len(values) and np.ptp(values) > 0 else _HIGHEST


def _disk(values: np.ndarray, radius: float, grow: bool) -> np.ndarray:
    """Dilate or erode by a disk, in time that does not depend on its radius."""
    if grow:
        return scipy.ndimage.distance_transform_edt(~values) <= radius if values.any() else values
    inside = np.pad(values, 1, constant_values=True)  # the slide's edge does not erode
    return scipy.ndimage.distance_transform_edt(inside)[1:-1, 1:-1] > radius if not inside.all() else values


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    return _disk(_disk(mask, radius, grow=False), radius, grow=True)


def _closed(mask: np.ndarray, radius: float) -> np.ndarray:
    rim = math.ceil(radius)
    grown = _disk(np.pad(mask, rim), radius, grow=True)
    return _disk(grown, radius, grow=False)[rim:-rim, rim:-rim]


def _pieces(region: np.ndarray, stained: np.ndarray, ink: np.ndarray, um_per_px: float) -> np.ndarray:
    """Trim a region to the stained pixels along its edge, fill holes, and drop ink, strips and small pieces."""
    from skimage.morphology import remove_small_holes, remove_small_objects

    px_per_mm2 = 1e6 / um_per_px**2
    mask = remove_small_holes(_closed(region, _CLOSE_UM / um_per_px), max_size=round(_HOLE_MM2 * px_per_mm2))
    mask &= _closed(stained, _CLOSE_UM / um_per_px) | _disk(mask, _TRIM_UM / um_per_px, grow=False)
    mask = remove_small_holes(mask, max_size=round(_HOLE_MM2 * px_per_mm2)) & ~ink
    mask = _without_edges(_opened(mask, _OPEN_UM / um_per_px), _EDGE_UM / um_per_px)
    return remove_small_objects(mask, max_size=round(LEAST_MM2 * px_per_mm2))


def _without_edges(mask: np.ndarray, width: float) -> np.ndarray:
    """Drop pieces that touch the picture's edge and reach no pixel further than a width from the glass."""
    labels, n = scipy.ndimage.label(mask)
    if n == 0:
        return mask
    depth = scipy.ndimage.distance_transform_edt(mask)
    deepest = scipy.ndimage.maximum(depth, labels, np.arange(n + 1))
    rim = np.zeros(n + 1, dtype=bool)
    rim[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    dropped = rim & (deepest < width)
    dropped[0] = False
    return mask & ~dropped[labels]


def _ink(density: np.ndarray, um_per_px: float) -> np.ndarray:
    """Find strokes of green, blue, red and black pens, and black bands."""
    from skimage.filters import apply_hysteresis_threshold

    smooth = (_blur(channel, max(1.0, _SHARP_UM / um_per_px)) for channel in np.moveaxis(density, 2, 0))
    red, green, blue = (np.maximum(channel, 1e-3) for channel in smooth)
    strong = np.maximum(np.maximum(red, green), blue) > _INK_DENSITY
    is_green = green < _GREEN_INK * np.minimum(red, blue)
    is_blue = apply_hysteresis_threshold(np.where(strong & (red > blue), red / green, 0), *_BLUE_INK)
    low_red, high_blue, dense = _RED_INK
    is_red = (red < low_red * green) & (blue > high_blue * green) & (green > dense)
    black, even = _BLACK_INK
    least = np.minimum(np.minimum(red, green), blue)
    is_black = (least > black) & (np.maximum(np.maximum(red, green), blue) < even * least)
    strokes = _opened(strong & (is_green | is_blue | is_red | is_black), _INK_OPEN_UM / um_per_px)
    return _disk(strokes, _INK_RIM_UM / um_per_px, grow=True)
