"""Whole-slide images: opening and thumbnails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openslide
from PIL import Image

from spotwise.errors import InputError
from spotwise.runtime.files import atomic

_STRIP_PX = 2**26  # pixels read at once for a thumbnail (256 MB)
_MAX_LEVEL_PX = 10**10  # above, a slide without a pyramid takes hours to shrink


@contextmanager
def open_slide(path: Path) -> Iterator[openslide.OpenSlide]:
    """Open a whole slide in a format of OpenSlide.

    Raises
    ------
    InputError
        The file is missing, empty, truncated, or not a slide, also if this shows only while it is read.
    """
    if not Path(path).is_file():
        raise InputError(path, "slide", "no such file", "a whole-slide image")
    if Path(path).stat().st_size == 0:
        raise InputError(path, "slide", "an empty file", "a whole-slide image")
    try:
        with openslide.OpenSlide(path) as slide:
            yield slide
    except openslide.OpenSlideUnsupportedFormatError as error:
        expected = "a tiled, pyramidal TIFF or a scanner's own format"
        raise InputError(path, "slide", "a format OpenSlide does not know", expected) from error
    except openslide.OpenSlideError as error:
        raise InputError(path, "slide", f"unreadable data ({error})", "a complete slide; fetch it again") from error


def on_white(region: Image.Image) -> Image.Image:
    """Convert RGBA to RGB on white, for pixels that OpenSlide leaves transparent."""
    alpha = region.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return region.convert("RGB")
    white = Image.new("RGB", region.size, "white")
    white.paste(region, mask=alpha)
    return white


def write_thumbnail(slide: Path, output_png: Path, longest_edge: int = 1000) -> None:
    """Write a slide as PNG, or raise `InputError` if it cannot be shrunk."""
    with open_slide(slide) as opened:
        image = _shrink(opened, slide, longest_edge)
    with atomic(output_png) as temporary:
        image.save(temporary)


def _shrink(opened: openslide.OpenSlide, slide: Path, longest_edge: int) -> Image.Image:
    """Shrink a slide by strips, without loading a whole level as OpenSlide would."""
    downsample = max(opened.dimensions) / longest_edge
    level = opened.get_best_level_for_downsample(max(downsample, 1.0))
    width, height = opened.level_dimensions[level]
    if width * height > _MAX_LEVEL_PX:
        expected = f"a level of at most {_MAX_LEVEL_PX:.0e} pixels (vips tiffsave --tile --pyramid makes a pyramid)"
        raise InputError(slide, "slide", f"a smallest level of {width} x {height} px", expected)
    shrink = max(1.0, max(width, height) / longest_edge)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    picture = Image.new("RGB", size, "white")
    rows_at_once = max(1, int(_STRIP_PX / width / shrink))  # of the thumbnail
    for top in range(0, size[1], rows_at_once):
        rows = min(rows_at_once, size[1] - top)
        first, last = round(top * height / size[1]), round((top + rows) * height / size[1])
        location = 0, round(first * opened.level_downsamples[level])
        strip = on_white(opened.read_region(location, level, (width, max(1, last - first))))
        picture.paste(strip.resize((size[0], rows), Image.Resampling.LANCZOS), (0, top))
    return picture
