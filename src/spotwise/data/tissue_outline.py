"""The outline of the tissue on a slide: polygons, GeoJSON, outlines drawn by the user, and a picture to check."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely
from PIL import Image, ImageDraw, ImageFont

from spotwise.constants import PATCH_UM
from spotwise.data.slide_format import TIFF_HEADS
from spotwise.data.tissue_detection import LEAST_MM2, detect_tissue
from spotwise.errors import InputError, first_line
from spotwise.runtime.files import atomic, write_text
from spotwise.runtime.input_files import known_content, unreadable

if TYPE_CHECKING:
    import pyvips

_GEOJSON = (".geojson", ".json")
_MASKS = (*TIFF_HEADS, b"\x89PNG")
_OUTSIDE_SHARE = 0.01  # of the slide's edges that an outline may reach beyond, and is cut off
_SIMPLER_PX = 0.4  # pixels of a mask by which its outline may be simplified; half a pixel would cut corners
_ASPECT_TOLERANCE = 0.01
_DRAWN_PX = 2000  # longest edge of the picture to check
_MASK_PX = 6000  # longest edge to which a mask is reduced
_LEAST_AGREEMENT = 0.3  # of the user's outline that should look like tissue
_EXPECTED = "polygons around the tissue in pixels of the slide's level 0, such as QuPath's export of annotations"
_COLOUR, _INK_COLOUR = (0, 160, 60), (255, 150, 0)


class Outline(NamedTuple):
    """Polygons on a slide, in level-0 pixels."""

    tissue: shapely.MultiPolygon
    left_out: shapely.MultiPolygon  # pen marks and dark bands
    warnings: list[str]


def find_outline(
    picture: Image.Image, size: tuple[int, int], um_per_px: float, source: object, drawn: Path | None = None
) -> Outline:
    """Outline the tissue on a slide, as detected or as drawn by the user.

    Parameters
    ----------
    picture
        Whole slide in RGB, of any size.
    size, um_per_px
        Width and height of the slide, and the size of its pixels.
    source
        Slide for messages.
    drawn
        The user's outline, see `read_outline`.

    Raises
    ------
    InputError
        There is no tissue on the slide, or the user's outline cannot be read.
    """
    detected = detect_tissue(picture, um_per_px * size[0] / picture.width)
    tissue, left_out = (outline_mask(mask, size) for mask in detected)
    if drawn:
        own, warnings = read_outline(drawn, size, um_per_px)
        return Outline(own, shapely.MultiPolygon(), warnings + _agreement_warnings(own, tissue))
    if tissue.is_empty:
        marked = f" beside {area_mm2(left_out, um_per_px):.2g} mm2 of pen marks or dark bands" if left_out else ""
        expected = f"a piece of at least {LEAST_MM2} mm2 stained with H&E; draw an outline (tissue) if there is one"
        raise InputError(source, "tissue", f"none{marked} at {um_per_px:.3g} um/px", expected)
    return Outline(tissue, left_out, [])


def outline_mask(mask: np.ndarray, size: tuple[int, int]) -> shapely.MultiPolygon:
    """Turn a mask (height, width) of the whole slide into polygons with holes, in pixels of a slide of ``size``."""
    from skimage.measure import find_contours

    scale = np.array(size) / mask.shape[::-1]
    rings = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5)
    corners = [(ring[:, ::-1] - 0.5) * scale for ring in rings]  # pixel 0 of the mask is pixel 1 of the padded one
    area = shapely.build_area(shapely.GeometryCollection([shapely.LinearRing(ring) for ring in corners]))
    return _polygons(shapely.simplify(area, _SIMPLER_PX * scale.max()))


def _polygons(area: shapely.Geometry) -> shapely.MultiPolygon:
    """Return the polygons of a geometry from top to bottom, made valid."""
    parts = shapely.get_parts(shapely.make_valid(area))
    while any(isinstance(part, shapely.MultiPolygon | shapely.GeometryCollection) for part in parts):
        parts = np.concatenate([shapely.get_parts(part) for part in parts])
    found = [part for part in parts if isinstance(part, shapely.Polygon) and part.area > 0]
    return shapely.MultiPolygon(sorted(found, key=lambda part: (part.bounds[1], part.bounds[0])))


def area_mm2(tissue: shapely.MultiPolygon, um_per_px: float) -> float:
    """Compute the area of polygons in pixels of ``um_per_px``."""
    return tissue.area * um_per_px**2 / 1e6


def write_outline(tissue: shapely.MultiPolygon, path: Path) -> None:
    """Write polygons as GeoJSON, which QuPath opens as annotations of the class Tissue."""
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, part.wkt)),
            "geometry": json.loads(shapely.to_geojson(shapely.set_precision(part, 0.01))),
            "properties": {
                "objectType": "annotation",
                "name": f"Tissue {number}",
                "classification": {"name": "Tissue", "color": list(_COLOUR)},
            },
        }
        for number, part in enumerate(tissue.geoms, start=1)
    ]
    write_text(path, json.dumps({"type": "FeatureCollection", "features": features}) + "\n")


def read_outline(path: Path, size: tuple[int, int], um_per_px: float) -> tuple[shapely.MultiPolygon, list[str]]:
    """Read the user's outline, a GeoJSON or a mask whose pixels on tissue are not zero.

    Parameters
    ----------
    path
        ``.geojson`` or ``.json`` with polygons in level-0 pixels; or a PNG or TIFF of any size with the slide's shape.
    size, um_per_px
        Width and height of the slide, and the size of a pixel.

    Returns
    -------
    tuple
        Polygons in level-0 pixels, and warnings.

    Raises
    ------
    InputError
        The file is unreadable or holds no polygons, coordinates are not pixels of the slide, or the mask has another
        shape, or is empty or full.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise unreadable(path, "outline", error, _EXPECTED) from None
    if path.suffix.lower() not in _GEOJSON:
        return _read_mask(path, head, size), []
    drawn, warnings = _read_geojson(path, head)
    _check_within(path, drawn, size)
    tissue = _polygons(drawn.intersection(shapely.box(0, 0, *size)))
    if tissue.area * um_per_px**2 < PATCH_UM**2:
        found = f"an area of {tissue.area:.4g} square pixels"
        expected = f"at least one patch of {PATCH_UM} um in pixels of the slide's level 0, not degrees or millimetres"
        raise InputError(path, "outline", found, expected)
    if not math.isclose(tissue.area, drawn.area, rel_tol=1e-6):
        warnings.append(f"{1 - tissue.area / drawn.area:.2%} of the outline lies beyond the slide, and is cut off")
    return tissue, warnings


def _read_geojson(path: Path, head: bytes) -> tuple[shapely.Geometry, list[str]]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        found, remedy = known_content(head) or (f"no JSON ({first_line(error)})", "")
        raise InputError(path, "outline", found, f"{_EXPECTED}; {remedy}" if remedy else _EXPECTED) from None
    if isinstance(content, dict) and "crs" in content:
        raise InputError(path, "crs", json.dumps(content["crs"])[:80], _EXPECTED)
    found = list(_geometries(content))
    polygons, n_others = [], 0
    for geometry in found:
        if geometry.get("type") in ("Polygon", "MultiPolygon"):
            polygons.append(_geometry(path, geometry))
        else:
            n_others += 1
    if not polygons:
        kinds = ", ".join(sorted({str(geometry.get("type")) for geometry in found})) or "nothing"
        raise InputError(path, "outline", f"{kinds} and no polygon", _EXPECTED)
    warnings = [f"{n_others} objects of the outline are no polygons, and are ignored"] if n_others else []
    return shapely.union_all([shapely.make_valid(one) for one in polygons]), warnings


def _geometries(content: object) -> Iterator[dict]:
    """Yield the geometries of a feature collection, a feature, a geometry, or a list of these."""
    if isinstance(content, list):
        for one in content:
            yield from _geometries(one)
    elif isinstance(content, dict):
        if content.get("type") in ("FeatureCollection", "GeometryCollection", "Feature"):
            for key in ("features", "geometries", "geometry"):
                yield from _geometries(content.get(key))
        else:
            yield content


def _geometry(path: Path, geometry: dict) -> shapely.Geometry:
    try:
        read = shapely.from_geojson(json.dumps(geometry))
    except shapely.errors.GEOSException as error:
        raise InputError(path, "outline", f"a broken polygon ({first_line(error)})", _EXPECTED) from None
    if not np.isfinite(shapely.get_coordinates(read)).all():
        raise InputError(path, "outline", "coordinates that are not finite", _EXPECTED)
    return read


def _check_within(path: Path, drawn: shapely.Geometry, size: tuple[int, int]) -> None:
    left, top, right, bottom = drawn.bounds if not drawn.is_empty else (0, 0, 0, 0)
    width, height = size
    rim_x, rim_y = _OUTSIDE_SHARE * width, _OUTSIDE_SHARE * height
    if left < -rim_x or top < -rim_y or right > width + rim_x or bottom > height + rim_y:
        found = f"an outline from ({left:.4g}, {top:.4g}) to ({right:.4g}, {bottom:.4g})"
        raise InputError(path, "outline", found, f"pixels of level 0 of a slide of {width} x {height} px")


def _read_mask(path: Path, head: bytes, size: tuple[int, int]) -> shapely.MultiPolygon:
    import pyvips

    expected = "a mask as PNG or TIFF that is not zero on tissue, or a GeoJSON (.geojson)"
    if not head.startswith(_MASKS):
        found, remedy = known_content(head) or ("another kind of file", "")
        if head.startswith(b"\xff\xd8\xff"):
            found = "a JPEG, which blurs the edges of a mask"
        raise InputError(path, "outline", found, f"{expected}; {remedy}" if remedy else expected)
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="truncated")
        _check_aspect(path, (image.width, image.height), size)
        mask = _reduced(image)
    except pyvips.Error as error:
        raise InputError(path, "outline", f"a damaged picture ({first_line(error)})", expected) from None
    if mask.all() or not mask.any():
        found = "a mask that is zero everywhere" if not mask.any() else "a mask that is nowhere zero"
        raise InputError(path, "outline", found, expected)
    return outline_mask(mask, size)


def _reduced(image: pyvips.Image) -> np.ndarray:
    """Read where a picture is not zero, reduced to at most `_MASK_PX`, as bool (height, width)."""
    if image.hasalpha():
        image = image[: image.bands - 1]
    tissue = (image != 0).bandor()
    shrink = max(1.0, max(image.width, image.height) / _MASK_PX)
    return tissue.reduce(shrink, shrink, kernel="linear").numpy() > 127


def _check_aspect(path: Path, found: tuple[int, int], size: tuple[int, int]) -> None:
    ratio = found[0] * size[1] / (found[1] * size[0])
    if abs(ratio - 1) > max(_ASPECT_TOLERANCE, 1 / min(found)):
        expected = f"the shape of the slide, {size[0]} x {size[1]} px, at any scale"
        raise InputError(path, "outline", f"a mask of {found[0]} x {found[1]} px", expected)


def _agreement_warnings(drawn: shapely.MultiPolygon, detected: shapely.MultiPolygon) -> list[str]:
    """Describe an outline of the user that hardly covers tissue that is detected on the slide."""
    share = drawn.intersection(detected).area / drawn.area
    if share >= _LEAST_AGREEMENT:
        return []
    return [f"only {share:.0%} of the outline looks like stained tissue: is it in pixels of this slide's level 0?"]


def draw_outline(picture: Image.Image, size: tuple[int, int], um_per_px: float, outline: Outline, path: Path) -> None:
    """Draw an outline on a picture of the whole slide, with a scale bar.

    Parameters
    ----------
    picture
        Whole slide in RGB, reduced to at most `_DRAWN_PX`.
    size, um_per_px
        Width and height of the slide, and the size of its pixels.
    outline
        Tissue, and what was left out.
    path
        PNG to write.
    """
    drawn = picture.copy()
    drawn.thumbnail((_DRAWN_PX, _DRAWN_PX))
    draw = ImageDraw.Draw(drawn)
    scale = np.array(drawn.size) / size
    line = max(2, max(drawn.size) // 500)
    for polygons, colour in ((outline.left_out, _INK_COLOUR), (outline.tissue, _COLOUR)):
        for part in polygons.geoms:
            for ring in (part.exterior, *part.interiors):
                corners = shapely.get_coordinates(ring) * scale
                draw.line(corners.ravel().tolist(), fill=colour, width=line, joint="curve")
    caption = f"tissue (green) {area_mm2(outline.tissue, um_per_px):.3g} mm2"
    if outline.left_out:
        caption += f", left out (orange) {area_mm2(outline.left_out, um_per_px):.3g} mm2"
    with atomic(path) as temporary:
        _with_scale_bar(drawn, um_per_px * size[0] / drawn.width, caption).save(temporary)


def _with_scale_bar(picture: Image.Image, um_per_px: float, caption: str) -> Image.Image:
    """Add a strip with a scale bar and a caption below a picture."""
    text_px = max(12, max(picture.size) // 55)
    framed = Image.new("RGB", (picture.width, round(picture.height + 2.2 * text_px)), "white")
    framed.paste(picture)
    longest_um = picture.width * um_per_px / 4
    step = 10 ** math.floor(math.log10(longest_um))
    length_um = max(factor * step for factor in (1, 2, 5) if factor * step <= longest_um)
    middle, end = picture.height + 1.1 * text_px, text_px + length_um / um_per_px
    draw = ImageDraw.Draw(framed)
    draw.line((text_px, middle, end, middle), fill="black", width=max(3, text_px // 5))
    font = ImageFont.load_default(text_px)
    draw.text((end + text_px, middle), f"{length_um / 1000:g} mm   {caption}", fill="black", font=font, anchor="lm")
    return framed
