"""The size of a slide and of its pixels, from the metadata and from the slide's tags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import openslide

from spotwise.data.coordinates import MAX_SCALE
from spotwise.data.hest import number
from spotwise.data.slides import open_slide
from spotwise.errors import InputError

# Embedded pixel sizes that mean "unknown": print resolutions (72 and 96 dpi), defaults of scanners and converters
PLACEHOLDER_UM_PER_PX = (1.0, 0.2125, 0.26458, 0.35278, 31.75, 63.5, 0.0006)
_PLAUSIBLE_UM_PER_PX = (0.06, 10.0)
_READABLE_UM_PER_PX = (0.01, 20.0)  # in tags beside the metadata; beyond, units that were never set
_USUAL_UM_PER_PX = (0.1, 2.0)  # of scanners, 5x to 80x
_TOLERANCE = 0.02
_SIZE_TOLERANCE = 0.01  # of width and height: more than a rim of padding
_EXPECTED = "micrometres per pixel of the slide's level 0"


class PixelSize(NamedTuple):
    """Pixel size of level 0 in micrometres."""

    um: float
    embedded: float | None  # in the slide's tags beside the metadata; None without a slide, and if it is a placeholder
    warnings: list[str]


def pixel_size(metadata: Mapping[str, object], slide: Path | None = None, source: object = None) -> PixelSize:
    """Determine the pixel size of level 0.

    HEST's ``pixel_size_um_estimated`` (from the distance between spots) comes first, because slides often embed none or
    a placeholder, and the tags of ``slide`` second. An embedded size that differs by more than 2 % is warned about.

    Parameters
    ----------
    metadata, source
        HEST's metadata, in which both sizes may be absent or null, and its file for messages.
    slide
        Whole slide with ``openslide.mpp-x`` and ``-y``.

    Raises
    ------
    InputError
        No source gives a size, it is no number, or it lies outside 0.06-10 um/px.
    """
    where = source or f"metadata of {metadata.get('id', 'the sample')}"
    estimated = number(metadata, "pixel_size_um_estimated", where, _EXPECTED)
    stated = number(metadata, "pixel_size_um_embedded", where, _EXPECTED)
    tags = tagged_size(slide) if slide else None
    if estimated is None:
        size = _size_of_tags(where, slide, tags)
        doubt = (
            [f"pixel size {size:.5g} um in the slide's tags looks like a placeholder"] if is_placeholder(size) else []
        )
        return PixelSize(size, None, doubt + _unusual(size))
    _check_plausible(where, "pixel_size_um_estimated", estimated)
    warnings = _unusual(estimated)
    embedded = credible(tags[0]) if tags and math.isclose(*tags, rel_tol=_TOLERANCE) else None
    others = {"pixel_size_um_embedded": credible(stated)}
    if embedded and 1 / MAX_SCALE <= embedded / estimated <= MAX_SCALE:  # beyond, `check_scale` decides
        others["the pixel size in the slide's tags"] = embedded
    for name, other in others.items():
        if other is not None and not math.isclose(other, estimated, rel_tol=_TOLERANCE):
            difference = f"{other:.4f} differs by {abs(other / estimated - 1):.1%}"
            warnings.append(f"{name} {difference} from pixel_size_um_estimated {estimated:.4f}, which is used")
    return PixelSize(estimated, embedded, warnings)


def tagged_size(slide: Path) -> tuple[float, float] | None:
    """Read width and height of a pixel from a slide's tags, if there are numbers."""
    with open_slide(slide) as opened:
        found = [opened.properties.get(key) for key in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    try:
        return float(found[0]), float(found[1])
    except (TypeError, ValueError):
        return None


def _size_of_tags(where: object, slide: Path | None, tags: tuple[float, float] | None) -> float:
    if slide is None:
        raise InputError(where, "pixel_size_um_estimated", "none", _EXPECTED)
    if tags is None:
        raise InputError(slide, "pixel size", "none, nor in the metadata", "pixel_size_um_estimated in the metadata")
    if not math.isclose(*tags, rel_tol=_TOLERANCE):
        raise InputError(slide, "openslide.mpp", f"{tags[0]:g} by {tags[1]:g} um/px", "square pixels")
    size = sum(tags) / 2
    _check_plausible(slide, "openslide.mpp", size, ", or pixel_size_um_estimated in the metadata")
    return size


def _check_plausible(where: object, field: str, size: float, remedy: str = "") -> None:
    low, high = _PLAUSIBLE_UM_PER_PX
    if not low <= size <= high:
        raise InputError(where, field, f"{size:g} um/px", f"between {low} and {high} um/px{remedy}")


def credible(size: float | None) -> float | None:
    """Return an embedded size if somebody has meant it."""
    low, high = _READABLE_UM_PER_PX
    return size if size is not None and low <= size <= high and not is_placeholder(size) else None


def _unusual(size: float) -> list[str]:
    low, high = _USUAL_UM_PER_PX
    return [] if low <= size <= high else [f"a pixel of {size:g} um is unusual: scanners have {low} to {high} um/px"]


def is_placeholder(size: float) -> bool:
    """Tell whether an embedded size in um stands for an unknown one."""
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
