"""Whole-slide images: opening, colours and thumbnails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openslide
from PIL import Image

from spotwise.data.hest import TO_TILED_TIFF
from spotwise.data.slide_format import check_pixels, unreadable_pixels, unsupported
from spotwise.errors import InputError
from spotwise.runtime.files import atomic
from spotwise.runtime.input_files import unreadable

# Spots that are looked at, and the side of the square around each
_N_SEEN, SEEN_PX = 32, 64
# Brightness (largest of R, G and B, 0-255) of the brightest tenth of spots: stained tissue has about 190 and more
_DARK, _DIM = 64, 100
_GREY = 4  # largest difference between the channels of a picture without colours

_STRIP_PX = 2**26  # pixels read at once for a thumbnail (256 MB)
_MAX_LEVEL_PX = 10**10  # above, a slide without a pyramid takes hours to shrink


@contextmanager
def open_slide(path: Path) -> Iterator[openslide.OpenSlide]:
    """Open a whole slide in a format of OpenSlide.

    Raises
    ------
    InputError
        The file is missing, truncated, no slide, or stores its pixels in a form that would be shown wrong; also if this
        shows only while it is read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise unreadable(path, "slide", error, "a whole-slide image") from None
    try:
        with openslide.OpenSlide(path) as slide:
            check_pixels(path, slide)
            yield slide
    except openslide.OpenSlideUnsupportedFormatError:
        raise unsupported(path, head) from None
    except openslide.OpenSlideError as error:
        raise unreadable_pixels(path, error) from error


def on_white(region: Image.Image) -> Image.Image:
    """Convert RGBA to RGB on white, for pixels that OpenSlide leaves transparent."""
    alpha = region.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return region.convert("RGB")
    white = Image.new("RGB", region.size, "white")
    white.paste(region, mask=alpha)
    return white


def colour_warnings(path: Path, centres: np.ndarray) -> list[str]:
    """Describe a slide that is dim or without colours at its spots.

    Centres are (N, 2) in level-0 pixels.

    Raises
    ------
    InputError
        The slide shows one colour at all spots that are looked at, or is dark there.
    """
    corners = np.asarray(centres)[a_few(len(centres))].astype(int) - SEEN_PX // 2
    with open_slide(path) as slide:
        regions = (slide.read_region((int(x), int(y)), 0, (SEEN_PX, SEEN_PX)) for x, y in corners)
        look = look_at(np.stack([np.asarray(on_white(region)) for region in regions]))
    spots = f"at {len(corners)} spots"
    if look.colour:
        found = f"nothing but the colour {look.colour} {spots}"
        raise InputError(path, "slide", found, "stained tissue around the spots")
    if look.is_dark:
        expected = (
            "a brightfield picture in 8 bits: scale samples of 10 to 15 bits that are stored in 16 (vips linear, vips "
            "cast uchar); fluorescence cannot stand for H&E"
        )
        raise InputError(path, "slide", f"a dark picture (brightness {look.brightness:.0f} of 255 {spots})", expected)
    return look.warnings("the slide")


class Look(NamedTuple):
    """What pictures of spots have in common."""

    colour: tuple[int, int, int] | None  # the only one
    brightness: float  # of the brightest tenth of spots, 0-255: the median of the largest of R, G and B
    is_grey: bool

    @property
    def is_dark(self) -> bool:
        """Whether the pictures are too dark for brightfield."""
        return self.brightness < _DARK

    def warnings(self, what: str) -> list[str]:
        """Describe what is odd about ``what`` was looked at."""
        found = []
        if self.colour:
            found.append(f"{what} shows nothing but the colour {self.colour} around the spots")
        elif self.brightness < _DIM:
            dark = "dark" if self.is_dark else "dim"
            found.append(
                f"{what} is {dark} (brightness {self.brightness:.0f} of 255 around the spots): is it brightfield?"
            )
        if self.is_grey and not self.colour:
            found.append(f"{what} has no colours around the spots: is it stained?")
        return found


def a_few(n: int) -> np.ndarray:
    """Choose the rows of a few of ``n`` spots, far apart and ascending."""
    return np.linspace(0, n - 1, min(_N_SEEN, n)).astype(int)


def look_at(pictures: np.ndarray) -> Look:
    """Look at pictures (N, height, width, 3) uint8 of N spots."""
    seen = pictures.reshape(len(pictures), -1, 3).astype(int)
    colour = tuple(seen[0, 0].tolist()) if np.ptp(seen, axis=(0, 1)).max() == 0 else None
    brightness = float(np.percentile(np.median(seen.max(axis=2), axis=1), 90))
    return Look(colour, brightness, bool(np.ptp(seen, axis=2).max() <= _GREY))


def write_thumbnail(slide: Path, output_png: Path, longest_edge: int = 1000) -> None:
    """Write a slide as PNG, or raise `InputError` if it cannot be shrunk."""
    with open_slide(slide) as opened:
        image = shrink(opened, slide, longest_edge)
    with atomic(output_png) as temporary:
        image.save(temporary)


def shrink(opened: openslide.OpenSlide, slide: Path, longest_edge: int) -> Image.Image:
    """Shrink a slide by strips, without loading a whole level as OpenSlide would."""
    downsample = max(opened.dimensions) / longest_edge
    level = opened.get_best_level_for_downsample(max(downsample, 1.0))
    width, height = opened.level_dimensions[level]
    if width * height > _MAX_LEVEL_PX:
        expected = f"a level of at most {_MAX_LEVEL_PX:.0e} pixels: " + TO_TILED_TIFF.format(
            source=slide, target="converted.tif"
        )
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
