"""The pixel size of a slide, and checks of slide and spots against the metadata."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide

from spotwise.data.slides import open_slide
from spotwise.data.spot_array import spot_pitch
from spotwise.errors import InputError

logger = logging.getLogger(__name__)

# Embedded pixel sizes that mean "unknown": print resolutions (72 and 96 dpi), defaults of scanners and converters
PLACEHOLDER_UM_PER_PX = (1.0, 0.2125, 0.26458, 0.35278, 31.75, 63.5, 0.0006)
_PLAUSIBLE_UM_PER_PX = (0.05, 10.0)
_PIXEL_SIZE_TOLERANCE = 0.02
_SIZE_TOLERANCE = 0.01  # of width and height: more than a rim of padding
_PITCH_TOLERANCE = 0.2  # rows of an array are compressed by up to a tenth if tissue was cut at an angle


def um_per_px(metadata: Mapping[str, object], slide: Path | None = None, source: object = None) -> float:
    """Determine the pixel size of level 0 in micrometres.

    HEST's ``pixel_size_um_estimated`` (from the distance between spots) comes first, because slides often embed none or
    a placeholder, and the tags of ``slide`` second. An embedded size that differs by more than 2 % is logged.

    Parameters
    ----------
    metadata, source
        HEST's metadata, in which both sizes may be absent or null, and its file for messages.
    slide
        Whole slide with ``openslide.mpp-x`` and ``-y``.

    Raises
    ------
    InputError
        No source gives a size, or the size lies outside 0.05-10 um/px.
    """
    where = source or f"metadata of {metadata.get('id', 'the sample')}"
    estimated = _pixel_size(where, metadata, "pixel_size_um_estimated")
    if estimated is None:
        return _embedded_um_per_px(where, slide)
    _check_plausible(where, "pixel_size_um_estimated", estimated)
    embedded = _pixel_size(where, metadata, "pixel_size_um_embedded")
    disagreement = abs(embedded / estimated - 1) if embedded is not None else 0.0
    if disagreement > _PIXEL_SIZE_TOLERANCE and not _is_placeholder(embedded):
        message = "%s: pixel_size_um_embedded %.4f differs by %.1f %% from pixel_size_um_estimated %.4f, which is used"
        logger.warning(message, where, embedded, 100 * disagreement, estimated)
    return estimated


def _pixel_size(where: object, metadata: Mapping[str, object], key: str) -> float | None:
    value = metadata.get(key)
    try:
        size = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        size = None
    if size is None or isinstance(value, bool):
        raise InputError(where, key, repr(value), "a number of micrometres per pixel, or null")
    return None if math.isnan(size) else size  # a blank CSV cell reaches the JSON as NaN


def _embedded_um_per_px(where: object, slide: Path | None) -> float:
    if slide is None:
        raise InputError(where, "pixel_size_um_estimated", "none", "micrometres per pixel of the slide's level 0")
    with open_slide(slide) as opened:
        found = [opened.properties.get(key) for key in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    if None in found:
        raise InputError(slide, "pixel size", "none, nor in the metadata", "pixel_size_um_estimated in the metadata")
    size = (float(found[0]) + float(found[1])) / 2
    _check_plausible(slide, "openslide.mpp", size)
    if not math.isclose(float(found[0]), float(found[1]), rel_tol=_PIXEL_SIZE_TOLERANCE):
        raise InputError(slide, "openslide.mpp", f"{found[0]} by {found[1]} um/px", "square pixels")
    if _is_placeholder(size):
        message = "%s: pixel size %.5g um looks like a placeholder; give pixel_size_um_estimated instead"
        logger.warning(message, slide, size)
    return size


def _check_plausible(where: object, field: str, size: float) -> None:
    low, high = _PLAUSIBLE_UM_PER_PX
    if not low <= size <= high:
        raise InputError(where, field, f"{size:g} um/px", f"between {low} and {high} um/px")


def _is_placeholder(size: float) -> bool:
    return any(math.isclose(size, known, rel_tol=1e-3) for known in PLACEHOLDER_UM_PER_PX)


def check_slide_size(slide: Path, expected: tuple[int, int], source: object) -> None:
    """Raise `InputError` unless a slide has the size in its metadata.

    A size (width, height) that differs by more than 1 % means that the spot centres are pixels of another image.
    """
    with open_slide(slide) as opened:
        size = opened.dimensions
    if any(abs(found - stated) > _SIZE_TOLERANCE * stated for found, stated in zip(size, expected, strict=True)):
        stated = f"{expected[0]} x {expected[1]} px, as stated in {source}"
        raise InputError(slide, "size", f"{size[0]} x {size[1]} px", stated)


def scale_warning(centres: np.ndarray, um_per_px: float, metadata: Mapping[str, object]) -> str | None:
    """Describe a disagreement of the spots' pitch with the metadata, if any.

    Centres are (N, 2) in level-0 pixels. ``inter_spot_dist`` in the metadata may be absent or not a number.
    """
    stated = metadata.get("inter_spot_dist")
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not 0 < stated < math.inf:
        return None
    found = spot_pitch(centres) * um_per_px
    if len(centres) < 2 or abs(found / stated - 1) <= _PITCH_TOLERANCE:
        return None
    return f"spots are {found:.0f} um apart at {um_per_px:.4g} um/px, inter_spot_dist in the metadata is {stated:g} um"
