"""How slides store their pixels: what is read as it is shown, and what has to be converted first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide

from spotwise.data.hest import TO_TILED_TIFF
from spotwise.errors import InputError, first_line
from spotwise.runtime.input_files import known_content, unreadable

if TYPE_CHECKING:
    import tifffile

# vendors whose tiles OpenSlide passes to libtiff, which turns each tile by the tag of the whole picture
_TURNED_BY_TILE = ("generic-tiff", "aperio")
_TURNS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "transposed",
    6: "turned by 90 degrees",
    7: "transversed",
    8: "turned by 270 degrees",
}
_ALPHA = (1, 2)  # ExtraSamples: associated and unassociated
_SHAPE_TOLERANCE_PX = 2  # of the levels of a pyramid, which round odd sizes
# First bytes of pictures that OpenSlide does not read
_PICTURES = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"BM": "a BMP picture",
}
TIFF_HEADS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
CONVERTED = (*TIFF_HEADS, b"\x89PNG", b"\xff\xd8\xff")  # TIFF, PNG and JPEG, see `slide_conversion`


def needs_conversion(path: Path) -> bool:
    """Tell whether a slide is a picture that has to become a tiled pyramid, as OpenSlide does not know it.

    Raises
    ------
    InputError
        The file is missing or may not be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise unreadable(path, "slide", error, "a whole-slide image") from None
    return head.startswith(CONVERTED) and openslide.OpenSlide.detect_format(path) is None


def check_pixels(path: Path, slide: openslide.OpenSlide) -> None:
    """Raise an `InputError` if OpenSlide would show a TIFF in other places or colours than it means.

    It turns single tiles by the tag Orientation, reads three grey pages as one grey picture, an unspecified fourth
    channel as transparency, and signed samples as unsigned. Palettes, CMYK, planar and 16-bit colours are shown right.
    """
    vendor = slide.properties.get(openslide.PROPERTY_NAME_VENDOR)
    if vendor not in _TURNED_BY_TILE:
        return
    import tifffile  # not needed to read patches

    with tifffile.TiffFile(path) as tiff:
        _check_orientation(path, tiff.pages.first)
        if vendor == "generic-tiff":
            check_samples(path, tiff, tiff.pages.first)
    if vendor == "generic-tiff":
        _check_levels(path, slide.level_dimensions)


def n_missing_tiles(path: Path, slide: openslide.OpenSlide, centres: np.ndarray) -> int:
    """Count the spots (N, 2) at whose centre a TIFF has no tile, which OpenSlide shows as empty."""
    if slide.properties.get(openslide.PROPERTY_NAME_VENDOR) not in _TURNED_BY_TILE:
        return 0
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        inside = centres[((centres >= 0) & (centres < (page.imagewidth, page.imagelength))).all(axis=1)]
        tiles = (inside // (page.tilewidth, page.tilelength)).astype(int) @ (1, -(-page.imagewidth // page.tilewidth))
        return int((np.asarray(page.databytecounts)[tiles] == 0).sum())


def _check_orientation(path: Path, page: tifffile.TiffPage) -> None:
    tag = page.tags.get("Orientation")
    value = 1 if tag is None else int(tag.value)
    if value not in (0, 1):  # some writers leave 0
        found = f"Orientation {value} ({_TURNS.get(value, 'unknown')})"
        expected = (
            f"Orientation 1: turn the pixels (vips autorot {path} upright.tif[tile,pyramid,compression=deflate]) if "
            f"the spots lie on the picture as it is shown, or drop the turn (tiffset -s 274 1 {path}) if they do not"
        )
        raise InputError(path, "slide", found, expected)


def check_samples(path: Path, tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Raise an `InputError` unless a page of a TIFF is a colour picture in whole numbers."""
    photometric, convert = page.photometric.name, TO_TILED_TIFF.format(source=path, target="converted.tif")
    if photometric in ("MINISBLACK", "MINISWHITE"):
        alike = sum(other.shape == page.shape for other in tiff.pages)
        found = f"{alike} grey pages, one per channel" if alike > 1 else "a single grey channel"
        expected = "one picture of stained tissue in RGB, such as H&E"
        if alike == 3:
            joined = " ".join(f"{path}[page={number}]" for number in range(3))
            convert = f'vips bandjoin "{joined}" rgb.v && vips copy rgb.v rgb.tif[tile,pyramid] --interpretation srgb'
            expected += f"; if the pages are red, green and blue: {convert}"
        elif alike == 1:
            expected += "; a fluorescence or DAPI picture is none"
        raise InputError(path, "slide", found, expected)
    if page.dtype is None or page.dtype.kind != "u":
        expected = f"8-bit RGB: scale the values to 0-255 and save them with {convert}"
        kind = page.dtype or f"{page.bitspersample} bits"
        raise InputError(path, "slide", f"samples of type {kind}", expected)
    n_colours = 4 if photometric == "SEPARATED" else 3
    extra = page.samplesperpixel - n_colours
    if extra > 0 and (extra > 1 or page.extrasamples[:1] not in ((kind,) for kind in _ALPHA)):
        found = f"{page.samplesperpixel} channels, of which {extra} of unknown meaning"
        raise InputError(
            path, "slide", found, f"RGB, or RGB with alpha: vips extract_band {path} rgb.tif[tile] 0 --n 3"
        )


def _check_levels(path: Path, sizes: tuple[tuple[int, int], ...]) -> None:
    """Refuse pages of another shape, such as a tiled label, among the levels of a pyramid."""
    width, height = sizes[0]
    for level_width, level_height in sizes[1:]:
        rounding = _SHAPE_TOLERANCE_PX * max(width / level_width, height / level_height)
        if abs(level_width * height / width - level_height) * height / level_height > rounding:
            found = f"a reduced page of {level_width} x {level_height} px in a slide of {width} x {height} px"
            raise InputError(path, "slide", found, "reduced pages of the slide's own shape; save the label elsewhere")


def unsupported(path: Path, head: bytes) -> InputError:
    """Say what a file is, of which ``head`` are the first bytes, that OpenSlide does not recognise as a slide."""
    convert = TO_TILED_TIFF.format(source=path, target="converted.tif")
    for beginning, kind in _PICTURES.items():
        if head.startswith(beginning):
            return InputError(path, "slide", kind, f"a slide: {convert}")
    if head.startswith(TIFF_HEADS):
        return InputError(path, "slide", _describe_tiff(path), f"tiles: {convert}")
    if known := known_content(head):
        return InputError(path, "slide", known[0], f"a whole-slide image; {known[1]}")
    return InputError(path, "slide", "a format OpenSlide does not know", "a tiled TIFF or a scanner's own format")


def _describe_tiff(path: Path) -> str:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            tiled = tiff.pages.first.is_tiled
    except Exception:  # tifffile raises many kinds for damaged files
        return "a damaged TIFF"
    return "a TIFF that OpenSlide does not know" if tiled else "a TIFF in strips, without tiles"


def unreadable_pixels(path: Path, error: openslide.OpenSlideError) -> InputError:
    """Say why OpenSlide fails to read a slide, and whether converting or fetching it would help."""
    reason, convert = first_line(error), TO_TILED_TIFF.format(source=path, target="converted.tif")
    if reason.startswith("Unsupported TIFF compression"):
        found = f"compression {_compression(reason.rsplit(' ', 1)[-1])}, which OpenSlide does not read in a TIFF"
        needs = " (a vips built with OpenJPEG)" if "2000" in found else ""
        return InputError(path, "slide", found, f"another: {convert}{needs}")
    if "TIFFRGBAImageOK" in reason or "Cannot get required TIFF tag: 258" in reason:
        found = f"samples that OpenSlide does not read ({reason})"
        return InputError(path, "slide", found, f"8-bit RGB: scale the values to 0-255 and save them with {convert}")
    return InputError(path, "slide", f"unreadable data ({reason})", "a complete slide; fetch it again")


def _compression(code: str) -> str:
    import tifffile

    try:
        return tifffile.COMPRESSION(int(code)).name
    except ValueError:
        return code
