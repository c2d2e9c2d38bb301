"""Conversion of pictures that OpenSlide does not read, such as plain TIFF, PNG and JPEG, into tiled pyramids."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from spotwise.data.pixel_size import credible
from spotwise.data.slide_format import CONVERTED, TIFF_HEADS, check_samples, unsupported
from spotwise.data.unsequenced_slides import CONVERTED_BY, SIZE_TOLERANCE, check_size, no_pixel_size
from spotwise.errors import InputError, first_line
from spotwise.runtime.files import atomic

if TYPE_CHECKING:
    import pyvips
    import tifffile

_TILE_PX = 256
_BIGTIFF_BYTES = 2 * 10**9  # of pixels; the file of a lossless pyramid may be a third larger
_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6}
_TIFF_UNITS = {2: 25_400.0, 3: 10_000.0}  # um per inch and per centimetre
_RGB = (("r", "g", "b"), ("red", "green", "blue"))


def convert_slide(source: Path, output: Path, um_per_px: float | None = None, threads: int = 1) -> list[str]:
    """Write a picture as a lossless tiled pyramid that OpenSlide reads, in flat memory.

    Pixels become 8-bit RGB: palettes and CMYK are looked up, 16 bits are divided by 256, transparency is shown on
    white, and a picture is turned as its tag Orientation says.

    Parameters
    ----------
    source
        TIFF, OME-TIFF, PNG or JPEG. Of several pages, the largest is taken.
    output
        TIFF to write.
    um_per_px
        Pixel size, which comes before that of OME-XML, ImageJ or the TIFF's resolution.
    threads
        Threads that compress tiles.

    Returns
    -------
    list of str
        Warnings, which are also kept in the file, from where `slide_facts` reads them.

    Raises
    ------
    InputError
        The picture is damaged, has no colours, or no pixel size.
    """
    import pyvips

    source = Path(source)
    with source.open("rb") as file:
        head = file.read(512)
    if not head.startswith(CONVERTED):
        raise unsupported(source, head)
    pages, tagged = _tiff_pages(source) if head.startswith(TIFF_HEADS) else ((0,), None)
    size = um_per_px or tagged
    if size is None:
        raise no_pixel_size(str(source), "none in the file")
    check_size(size, source, "um_per_px" if um_per_px else "pixel size")
    pyvips.concurrency_set(threads)
    warnings = []
    if um_per_px and tagged and not math.isclose(um_per_px, tagged, rel_tol=SIZE_TOLERANCE):
        warnings.append(f"um_per_px {um_per_px:g} is used, the file says {tagged:g}")
    try:
        picture, turned = _open(source, pages)
        warnings += turned
        if picture.interpretation == "cmyk":
            warnings.append("CMYK is turned into RGB by a standard profile")
        if picture.format == "ushort":
            warnings.append("16 bits of each colour are reduced to the upper 8")
        picture = _as_rgb(source, picture).copy(xres=1000 / size, yres=1000 / size)  # pixels per millimetre
        picture.set_type(pyvips.GValue.gstr_type, "image-description", "; ".join([CONVERTED_BY, *warnings]))
        with atomic(output) as temporary:
            picture.tiffsave(
                str(temporary),
                tile=True,
                tile_width=_TILE_PX,
                tile_height=_TILE_PX,
                pyramid=True,
                compression="deflate",
                predictor="horizontal",
                resunit="cm",
                bigtiff=3 * picture.width * picture.height > _BIGTIFF_BYTES,
                keep="other",
            )
    except pyvips.Error as error:
        found = f"unreadable data ({' '.join(str(error).split())})"
        raise InputError(source, "slide", found, "a complete picture; copy or fetch it again") from None
    return warnings


def _open(source: Path, pages: tuple[int, ...]) -> tuple[pyvips.Image, list[str]]:
    """Open a picture as it is meant to be shown, to be read from top to bottom where it is not turned."""
    picture = _load(source, pages, access="sequential")
    turn = picture.get("orientation") if picture.get_typeof("orientation") else 1
    if turn in (0, 1):
        return picture, []
    # read in another order than it is stored, from a temporary file of libvips
    return _load(source, pages).autorot(), [f"{source.name} is turned as its tag Orientation ({turn}) says"]


def _load(source: Path, pages: tuple[int, ...], **access: str) -> pyvips.Image:
    """Load one page, or three pages as red, green and blue."""
    import pyvips

    first, *others = (
        pyvips.Image.new_from_file(str(source), fail_on="error", **({"page": page} if page else {}), **access)
        for page in pages
    )
    return first.bandjoin(others).copy(interpretation="srgb") if others else first


def _as_rgb(source: Path, picture: pyvips.Image) -> pyvips.Image:
    if picture.interpretation in ("b-w", "grey16") or picture.bands < 3:
        expected = "one picture of stained tissue in RGB, such as H&E; fluorescence cannot stand for it"
        raise InputError(source, "slide", "a single grey channel", expected)
    if picture.format not in ("uchar", "ushort"):
        raise InputError(source, "slide", f"samples of type {picture.format}", "8-bit RGB: scale the values to 0-255")
    if picture.format == "ushort" and picture.interpretation in ("srgb", "multiband"):
        picture = picture.copy(interpretation="rgb16")
    picture = picture.colourspace("srgb")
    if picture.hasalpha():
        picture = picture.flatten(background=255)
    if picture.bands != 3:
        raise InputError(source, "slide", f"{picture.bands} channels", "RGB, or RGB with alpha")
    return picture.cast("uchar")


def _tiff_pages(source: Path) -> tuple[tuple[int, ...], float | None]:
    """Choose the largest page of a TIFF, or three grey ones that are red, green and blue, and read its pixel size."""
    import tifffile

    try:
        with tifffile.TiffFile(source) as tiff:
            page = max(tiff.pages, key=lambda page: page.imagewidth * page.imagelength)
            pixels = _ome_pixels(tiff.ome_metadata, page)
            size = _ome_size(pixels) if pixels is not None else _page_size(tiff, page)
            alike = tuple(other.index for other in tiff.pages if other.shape == page.shape)
            if page.photometric.name == "MINISBLACK" and len(alike) == 3 and _channels(pixels) in _RGB:
                pages = alike
            else:
                check_samples(source, tiff, page)
                pages = (page.index,)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # tifffile raises many kinds for damaged files
        raise InputError(source, "slide", f"a damaged TIFF ({first_line(error)})", "a complete picture") from None
    if size and not math.isclose(*size, rel_tol=SIZE_TOLERANCE):
        raise InputError(source, "pixel size", f"{size[0]:g} by {size[1]:g} um/px", "square pixels")
    return pages, credible(size[0]) if size else None


def _ome_pixels(xml: str | None, page: tifffile.TiffPage) -> ElementTree.Element | None:
    """Find what OME-XML says of the image in a page."""
    if not xml:
        return None
    found = [element for element in ElementTree.fromstring(xml).iter() if element.tag.endswith("}Pixels")]
    return next((pixels for pixels in found if int(pixels.get("SizeX", 0)) == page.imagewidth), None)


def _ome_size(pixels: ElementTree.Element) -> tuple[float, float] | None:
    sizes = []
    for axis in ("X", "Y"):
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if value is None or unit not in _UM:
            return None
        sizes.append(float(value) * _UM[unit])
    return sizes[0], sizes[1]


def _channels(pixels: ElementTree.Element | None) -> tuple[str, ...]:
    found = [] if pixels is None else [element for element in pixels.iter() if element.tag.endswith("}Channel")]
    return tuple(channel.get("Name", "").strip().lower() for channel in found)


def _page_size(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Read width and height of a pixel in um from the resolution of a page, which for ImageJ has a unit of its own."""
    densities = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    if None in densities or not all(math.prod(density.value) for density in densities):
        return None
    unit = _TIFF_UNITS.get(int(page.resolutionunit))
    if tiff.is_imagej:
        unit = _UM.get(str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ"))
    if unit is None:
        return None
    (x, x_per), (y, y_per) = (density.value for density in densities)
    return unit * x_per / x, unit * y_per / y
