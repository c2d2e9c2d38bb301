"""Outlines are those of the tissue, open in QuPath, and come from the user where there is one."""

from __future__ import annotations

import json

import geojson_pydantic
import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from spotwise.data.tissue_outline import area_mm2, draw_outline, find_outline, outline_mask, read_outline, write_outline
from spotwise.errors import InputError
from stainedpictures import INKS, Slide, stroke

SIZE, UM_PER_PX = (6400, 4800), 0.5
PICTURE = (400, 300)
SECTION = stroke(PICTURE, (60, 60, 260, 240))
SQUARE = [[1000, 1000], [3000, 1000], [3000, 2000], [1000, 2000], [1000, 1000]]
HOLE = [[1500, 1200], [1500, 1800], [2500, 1800], [2500, 1200], [1500, 1200]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def written(folder, content, name="outline.geojson"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path):
    return read_outline(path, SIZE, UM_PER_PX)


# --- from a mask ------------------------------------------------------------------------------------------------------


def test_polygons_of_a_mask_cover_its_pixels_and_spare_its_holes():
    mask = SECTION & ~stroke(PICTURE, (120, 120, 180, 180))
    mask |= stroke(PICTURE, (300, 20, 390, 90))
    outline = outline_mask(mask, SIZE)
    assert outline.is_valid
    assert [len(part.interiors) for part in outline.geoms] == [0, 1]  # from top to bottom
    rows, columns = np.indices(mask.shape)
    centres = shapely.points((columns + 0.5) * 16, (rows + 0.5) * 16)
    shapely.prepare(outline)
    assert (shapely.contains(outline, centres) != mask).mean() < 0.002  # of pixels along the simplified edge
    assert outline.area == pytest.approx(mask.sum() * 16**2, rel=0.01)


def test_a_mask_that_touches_the_edge_reaches_the_edge_of_the_slide():
    outline = outline_mask(np.ones((30, 40), bool), SIZE)
    assert outline.bounds == (0, 0, *SIZE)
    assert outline.area == pytest.approx(SIZE[0] * SIZE[1], rel=1e-3)  # corners are cut by half a pixel of the mask
    assert outline_mask(np.zeros((30, 40), bool), SIZE).is_empty


def test_the_area_is_that_of_the_pixels_size():
    assert area_mm2(shapely.MultiPolygon([shapely.box(0, 0, 2000, 1000)]), 0.5) == 0.5


# --- detected ---------------------------------------------------------------------------------------------------------


def test_tissue_is_outlined_in_pixels_of_the_slide_and_ink_beside_it():
    picture = Slide(PICTURE).tissue(SECTION).ink(stroke(PICTURE, (300, 20, 380, 150, 290, 280), 30), INKS["green"])
    outline = find_outline(picture.picture(), SIZE, UM_PER_PX, "a.svs")
    truth = outline_mask(SECTION, SIZE)
    assert outline.tissue.intersection(truth).area > 0.95 * outline.tissue.union(truth).area
    assert outline.left_out.area > 0
    assert not outline.left_out.intersects(truth)


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (Slide(PICTURE), r"a\.svs: tissue: found none at 0\.5 um/px, expected a piece of at least 0\.05 mm2 stained"),
        (
            Slide(PICTURE).ink(stroke(PICTURE, (300, 20, 380, 150, 290, 280), 30), INKS["blue"]),
            r"found none beside \d\.\d+ mm2 of pen marks or dark bands",
        ),
    ],
    ids=["glass", "a pen mark"],
)
def test_a_slide_without_tissue_is_refused_in_one_line(picture, found):
    with pytest.raises(InputError, match=found) as error:
        find_outline(picture.picture(), SIZE, UM_PER_PX, "a.svs")
    assert "\n" not in str(error.value)


def test_the_users_outline_is_taken_and_compared_with_the_stain(tmp_path):
    picture = Slide(PICTURE).tissue(SECTION).picture()
    outline = find_outline(picture, SIZE, UM_PER_PX, "a.svs", written(tmp_path, polygon(SQUARE)))
    assert outline.tissue.equals(shapely.Polygon(SQUARE))
    assert outline.warnings == []
    corner = [[x + 3000, y + 2500] for x, y in SQUARE]
    outline = find_outline(picture, SIZE, UM_PER_PX, "a.svs", written(tmp_path, polygon(corner)))
    assert outline.tissue.equals(shapely.Polygon(corner))
    (warning,) = outline.warnings
    assert "of the outline looks like stained tissue: is it in pixels of this slide's level 0?" in warning


# --- GeoJSON ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_geojson_of_annotations_and_reads_back(tmp_path):
    tissue = shapely.MultiPolygon([shapely.Polygon(SQUARE, [HOLE]), shapely.box(3000.25, 3000.5, 4000, 4000)])
    write_outline(tissue, tmp_path / "tissue.geojson")
    collection = geojson_pydantic.FeatureCollection.model_validate_json((tmp_path / "tissue.geojson").read_text())
    assert [one.geometry.type for one in collection.features] == ["Polygon", "Polygon"]
    assert {one.properties["objectType"] for one in collection.features} == {"annotation"}
    assert {one.properties["classification"]["name"] for one in collection.features} == {"Tissue"}
    again, warnings = read(tmp_path / "tissue.geojson")
    assert again.equals(tissue)
    assert warnings == []
    before = (tmp_path / "tissue.geojson").read_bytes()
    write_outline(tissue, tmp_path / "tissue.geojson")
    assert (tmp_path / "tissue.geojson").read_bytes() == before


MULTIPOLYGON = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [[[x, y + 2000] for x, y in SQUARE]]]}


@pytest.mark.parametrize(
    ("content", "area"),
    [
        (feature(polygon(SQUARE), objectType="annotation", isLocked=False), 2e6),
        ({"type": "FeatureCollection", "features": [feature(polygon(SQUARE, HOLE))]}, 1.4e6),
        ([feature(polygon(SQUARE)), feature(polygon(SQUARE))], 2e6),
        (MULTIPOLYGON, 3.4e6),
        ({"type": "GeometryCollection", "geometries": [MULTIPOLYGON, polygon(SQUARE)]}, 4e6),
        (polygon([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3], SQUARE[0]]), 1e6),
        (polygon(SQUARE[::-1], HOLE[::-1]), 1.4e6),
    ],
    ids=["feature", "collection", "list", "multipolygon", "geometries", "crossed", "other direction"],
)
def test_polygons_are_read_in_any_form_and_joined(tmp_path, content, area):
    tissue, warnings = read(written(tmp_path, content))
    assert tissue.is_valid
    assert tissue.area == pytest.approx(area)
    assert warnings == []


def test_points_and_lines_are_ignored_and_counted(tmp_path):
    line = {"type": "LineString", "coordinates": SQUARE[:2]}
    content = [feature(polygon(SQUARE)), feature(line), feature({"type": "Point", "coordinates": [5, 5]})]
    tissue, warnings = read(written(tmp_path, content))
    assert tissue.area == 2e6
    assert warnings == ["2 objects of the outline are no polygons, and are ignored"]


def test_a_rim_beyond_the_slide_is_cut_off_and_said(tmp_path):
    tissue, warnings = read(written(tmp_path, polygon([[-20, 0], [2000, 0], [2000, 1000], [-20, 1000], [-20, 0]])))
    assert tissue.equals(shapely.box(0, 0, 2000, 1000))
    assert warnings == ["0.99% of the outline lies beyond the slide, and is cut off"]


WRONG = {
    "empty file": ("", "outline: found an empty file"),
    "no JSON": ("{", "outline: found no JSON"),
    "a web page": ("<!DOCTYPE html>", "outline: found a web page, .*download the file itself"),
    "no features": ({"type": "FeatureCollection", "features": []}, "outline: found nothing and no polygon"),
    "a line": ({"type": "LineString", "coordinates": SQUARE}, "outline: found LineString and no polygon"),
    "an open ring": (polygon([[0, 0], [1, 1]]), "outline: found a broken polygon"),
    "no coordinates": ({"type": "Polygon"}, "outline: found a broken polygon"),
    "infinite": (
        '{"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [9, 9], [0, 0]]]}',
        "outline: found (coordinates that are not finite|a broken polygon)",
    ),
    "a CRS": (polygon(SQUARE) | {"crs": {"type": "name", "properties": {"name": "EPSG:4326"}}}, "crs: found .*EPSG"),
    "degrees": (
        polygon([[12.1, 50.2], [12.2, 50.2], [12.2, 50.4], [12.1, 50.2]]),
        "outline: found an area of 0.01 square pixels, expected at least one patch of 112 um",
    ),
    "beyond": (
        polygon([[x * 4, y * 4] for x, y in SQUARE]),
        r"outline: found an outline from \(4000, 4000\) to \(1.2e\+04, 8000\), expected pixels of level 0 of a slide",
    ),
    "negative": (polygon([[x - 5000, y] for x, y in SQUARE]), r"outline: found an outline from \(-4000, 1000\)"),
}


@pytest.mark.parametrize(("content", "found"), WRONG.values(), ids=WRONG)
def test_what_is_no_outline_is_refused_in_one_line(tmp_path, content, found):
    with pytest.raises(InputError, match=rf"outline\.geojson: {found}") as error:
        read(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_missing_outline_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.geojson: outline: found no such file"):
        read(tmp_path / "gone.geojson")


# --- masks ------------------------------------------------------------------------------------------------------------

MASK = SECTION.astype(np.uint8)
FORMS = {
    "0 and 1": (Image.fromarray(MASK), "mask.png"),
    "labels": (Image.fromarray(MASK * 7), "mask.tif"),
    "RGB": (Image.fromarray(np.dstack([MASK * 0, MASK * 200, MASK * 0])), "mask.png"),
    "opaque": (Image.fromarray(np.dstack([MASK, MASK, MASK, np.full_like(MASK, 255)])), "mask.png"),
    "bits": (Image.fromarray(SECTION), "mask.png"),
    "of the slide's size": (Image.fromarray(MASK).resize(SIZE, Image.Resampling.NEAREST), "mask.png"),
}


@pytest.mark.parametrize(("image", "name"), FORMS.values(), ids=FORMS)
def test_a_mask_of_any_size_and_type_is_read(tmp_path, image, name):
    image.save(tmp_path / name)
    tissue, warnings = read(tmp_path / name)
    assert tissue.symmetric_difference(outline_mask(SECTION, SIZE)).area < 0.01 * tissue.area
    assert warnings == []


def test_labels_in_16_bits_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "mask.tif", MASK.astype(np.uint16) * 300)
    assert read(tmp_path / "mask.tif")[0].equals(outline_mask(SECTION, SIZE))


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (Image.fromarray(MASK[:, :300]), "mask.png", r"a mask of 300 x 300 px, expected the shape of the slide, 6400"),
        (Image.fromarray(MASK * 0), "mask.png", "a mask that is zero everywhere"),
        (Image.fromarray(MASK + 1), "mask.png", "a mask that is nowhere zero"),
        (Image.fromarray(MASK * 255), "mask.jpg", "a JPEG, which blurs the edges of a mask"),
        (b"x,y\n1,2\n", "mask.csv", "another kind of file"),
        (b"", "mask.png", "an empty file"),
        (b"\x89PNG\r\n\x1a\n", "mask.png", "a damaged picture"),
    ],
    ids=["another shape", "empty", "full", "JPEG", "a table", "an empty file", "cut off"],
)
def test_what_is_no_mask_is_refused_in_one_line(tmp_path, content, name, found):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content.save(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: outline: found {found}") as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


# --- picture ----------------------------------------------------------------------------------------------------------


def test_the_picture_shows_the_outline_where_the_tissue_is(tmp_path):
    picture = Slide((800, 600)).tissue(stroke((800, 600), (120, 120, 520, 480))).picture()
    outline = find_outline(picture, SIZE, UM_PER_PX, "a.svs")
    draw_outline(picture, SIZE, UM_PER_PX, outline, tmp_path / "tissue.png")
    with Image.open(tmp_path / "tissue.png") as drawn:
        assert drawn.width == 800
        assert drawn.height > 600  # a strip for the scale bar
        green = (np.asarray(drawn)[:600] == (0, 160, 60)).all(axis=2)
    rows, columns = np.nonzero(green)
    assert (columns.min(), columns.max()) == (pytest.approx(120, abs=8), pytest.approx(520, abs=8))
    assert (rows.min(), rows.max()) == (pytest.approx(120, abs=8), pytest.approx(480, abs=8))
    strip = np.asarray(drawn)[600:, :, 0]
    bar = np.flatnonzero((strip < 50).any(axis=0) & (strip[len(strip) // 2] < 50))
    assert bar[0] < 20
    length = np.argmax(np.diff(bar) > 1) or len(bar)
    assert length * UM_PER_PX * 8 == pytest.approx(500, rel=0.05)  # um
