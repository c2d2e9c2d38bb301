"""Slides that were never sequenced: their pixel size, and whether they can be predicted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from spotwise.constants import PATCH_PX, PATCH_UM
from spotwise.data.pixel_size import is_placeholder, tagged_size
from spotwise.data.slides import look_at, open_slide, shrink
from spotwise.data.tissue_detection import PICTURE_UM
from spotwise.errors import InputError
from spotwise.runtime.files import atomic

# At 10x the nucleus of a lymphocyte is still 6 px wide, and patches are enlarged 2.2 times
COARSEST_UM_PER_PX = 1.1
FINEST_UM_PER_PX = 0.06
COARSE_UM_PER_PX = 0.75  # her2st's 0.69 still counts as the 0.5 that encoders expect
SIZE_TOLERANCE = 0.02  # between a pixel size given by the user and the slide's tags
HIRES_PX, LOWRES_PX = 2000, 600  # longest edges of the pictures that lie under the maps
MAX_PICTURE_PIXELS = 16_000_000  # of the picture on which tissue is detected, which take 1.5 GB
GIVE_SIZE = (
    "micrometres per pixel: give it in the column um_per_px of the slides' table, or with --config "
    "'predict={{slides: [{{path: {path}, um_per_px: 0.25}}]}}'"
)
CONVERTED_BY = "converted by spotwise"  # begins the description of a converted slide, its warnings follow
_SCANNED = 8  # largest of R, G and B above which a pixel was scanned
_BRIGHTFIELD = "an H&E slide in brightfield"


def slide_facts(path: Path, source: str, um_per_px: float | None = None, where: object = None) -> dict:
    """Determine size and pixel size of a slide, and check that it can be predicted.

    Parameters
    ----------
    path
        Slide that OpenSlide reads: the user's, or its conversion.
    source
        The user's file, for messages and for the record.
    um_per_px
        Pixel size of level 0 as given by the user, which comes before the slide's tags.
    where
        Where the user's pixel size stands, for messages.

    Returns
    -------
    dict
        ``source``, ``path``, ``width``, ``height``, ``um_per_px``, ``um_per_px_from`` and ``warnings``.

    Raises
    ------
    InputError
        The slide cannot be read, or has no pixel size, or is too coarse for patches of 112 um.
    """
    path = Path(path)
    with open_slide(path) as opened:
        width, height = opened.dimensions
        vendor = opened.properties.get(openslide.PROPERTY_NAME_VENDOR)
        first, *converted = opened.properties.get(openslide.PROPERTY_NAME_COMMENT, "").split("; ")
    size, size_from, warnings = _pixel_size(path, source, um_per_px, where or source)
    return {
        "source": str(source),
        "path": str(path),
        "vendor": vendor,
        "width": width,
        "height": height,
        "um_per_px": size,
        "um_per_px_from": size_from,
        "warnings": (converted if first == CONVERTED_BY else []) + warnings,
    }


def _pixel_size(path: Path, source: str, given: float | None, where: object) -> tuple[float, str, list[str]]:
    tags = tagged_size(path)
    tagged = tags[0] if tags and all(map(_is_meant, tags)) and math.isclose(*tags, rel_tol=SIZE_TOLERANCE) else None
    if given is not None:
        check_size(given, where, "um_per_px")
        warnings = _coarse(given)
        if tagged and not math.isclose(tagged, given, rel_tol=SIZE_TOLERANCE):
            warnings.append(f"um_per_px {given:g} is used, the slide's tags say {tagged:g}")
        return float(given), "user", warnings
    if tags is None:
        raise no_pixel_size(source, "none in the slide's tags")
    if not all(map(_is_meant, tags)):
        raise no_pixel_size(source, f"{tags[0]:g} in the slide's tags, which means unknown")
    if tagged is None:
        raise InputError(source, "pixel size", f"{tags[0]:g} by {tags[1]:g} um/px in its tags", "square pixels")
    size = sum(tags) / 2
    check_size(size, source, "pixel size", "; if the slide's tags are wrong, give um_per_px")
    return size, "the slide's tags", _coarse(size)


def _is_meant(size: float) -> bool:
    return math.isfinite(size) and size > 0 and not is_placeholder(size)


def no_pixel_size(source: str, found: str) -> InputError:
    """Say that a slide has no pixel size, and how to give one."""
    return InputError(source, "pixel size", found, GIVE_SIZE.format(path=source))


def check_size(size: float, where: object, field: str, remedy: str = "") -> None:
    """Raise `InputError` unless patches can be cut at a pixel size in um."""
    if size > COARSEST_UM_PER_PX:
        expected = (
            f"at most {COARSEST_UM_PER_PX} um/px (10x): a patch of {PATCH_UM} um needs {PATCH_PX} px, and would be "
            f"made of {PATCH_UM / size:.0f}{remedy}"
        )
        raise InputError(where, field, f"{size:.4g} um/px, which is too coarse", expected)
    if not size >= FINEST_UM_PER_PX:
        found, limits = f"{size:g} um/px", f"between {FINEST_UM_PER_PX} and {COARSEST_UM_PER_PX} um/px"
        raise InputError(where, field, found, limits + remedy)


def _coarse(size: float) -> list[str]:
    if size <= COARSE_UM_PER_PX:
        return []
    found = f"a pixel of {size:.3g} um is coarse: patches of {PATCH_UM} um are enlarged"
    return [f"{found} {PATCH_PX * size / PATCH_UM:.1f} times to {PATCH_PX} px"]


def slide_picture(path: Path, source: str, um_per_px: float) -> tuple[Image.Image, list[str]]:
    """Shrink a slide to the picture on which tissue is found, and describe odd colours.

    Its pixels are `PICTURE_UM` wide, finer if it is shorter than `HIRES_PX`, and coarser beyond `MAX_PICTURE_PIXELS`.

    Raises
    ------
    InputError
        The slide shows one colour alone, or is dark, as fluorescence is.
    """
    with open_slide(path) as opened:
        width, height = opened.dimensions
        edge = max(width, height)
        factor = min(um_per_px / PICTURE_UM, math.sqrt(MAX_PICTURE_PIXELS / (width * height)))
        picture = shrink(opened, path, min(edge, max(HIRES_PX, round(edge * factor))))
    pixels = np.asarray(picture)
    scanned = pixels.max(axis=2) > _SCANNED
    if not scanned.any() or np.ptp(pixels, axis=(0, 1)).max() == 0:
        colour = tuple(pixels[0, 0].tolist())
        raise InputError(source, "slide", f"a blank slide of the colour {colour}", _BRIGHTFIELD)
    look = look_at(pixels[scanned][None, :, None])
    if look.is_dark:
        found = f"a dark picture (median brightness {look.brightness:.0f} of 255)"
        expected = f"{_BRIGHTFIELD}; fluorescence cannot stand for it, and 10 to 15 bits stored in 16 have to be scaled"
        raise InputError(source, "slide", found, expected)
    if look.is_grey:
        raise InputError(source, "slide", "a picture without colours", _BRIGHTFIELD)
    return picture, look.warnings("the slide")


def write_picture(picture: Image.Image, longest_edge: int, path: Path) -> None:
    """Write a picture as PNG with at most the longest edge in pixels."""
    reduced = picture.copy()
    reduced.thumbnail((longest_edge, longest_edge), Image.Resampling.LANCZOS, reducing_gap=None)
    with atomic(path) as temporary:
        reduced.save(temporary)
