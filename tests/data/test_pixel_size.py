"""Pixel sizes are plausible and agree with their sources and with the spots."""

from __future__ import annotations

import pytest

from drawnslides import texture, write_slide
from spotwise.data.pixel_size import check_slide_size, pixel_size
from spotwise.errors import InputError


def test_estimated_pixel_size_is_trusted_before_the_slide(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=0.25)
    assert pixel_size({"pixel_size_um_estimated": 0.274}, slide).um == 0.274
    assert pixel_size({"pixel_size_um_estimated": None}, slide).um == pytest.approx(0.25, rel=1e-6)
    assert pixel_size({"pixel_size_um_estimated": float("nan")}, slide).um == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize(
    ("metadata", "tag", "match"),
    [
        ({}, None, "pixel size: found none"),
        ({"pixel_size_um_estimated": 0}, 0.25, "pixel_size_um_estimated: found 0, expected micrometres per pixel"),
        ({"pixel_size_um_estimated": -0.5}, 0.25, "found -0.5, expected"),
        ({"pixel_size_um_estimated": 0.05}, 0.5, "found 0.05 um/px, expected between 0.06 and 10.0 um/px"),
        ({"pixel_size_um_estimated": 0.5, "pixel_size_um_embedded": "0,5"}, 0.5, "_embedded: found '0,5'"),
        ({"pixel_size_um_estimated": 31.75}, 0.25, "found 31.75 um/px"),
        ({"pixel_size_um_estimated": "20x"}, 0.25, "found '20x'"),
        ({}, 264.58, "openslide.mpp: found 264.58 um/px"),
        ({}, 0.05, "openslide.mpp: found 0.05 um/px"),
        ({}, (0.5, 0.25), "openslide.mpp: found 0.5 by 0.25 um/px, expected square pixels"),
    ],
)
def test_implausible_pixel_size_is_refused(tmp_path, metadata, tag, match):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=tag)
    with pytest.raises(InputError, match=match):
        pixel_size(metadata, slide)


def test_missing_pixel_size_without_a_slide_is_refused():
    with pytest.raises(InputError, match="metadata of S1: pixel_size_um_estimated: found none"):
        pixel_size({"id": "S1"})


def warnings(metadata, slide=None):
    return pixel_size(metadata, slide, "S1").warnings


@pytest.mark.parametrize(
    ("embedded", "warned"), [(0.28, True), (0.2767, False), (0.35278, False), (1, False), (None, False), (95.0, False)]
)
def test_embedded_pixel_size_that_disagrees_is_warned_about_unless_it_is_a_placeholder(tmp_path, embedded, warned):
    told = "0.2800 differs by 2.2% from pixel_size_um_estimated 0.2740, which is used"
    metadata = {"pixel_size_um_estimated": 0.274}
    expected = [f"pixel_size_um_embedded {told}"] if warned else []
    assert warnings(metadata | {"pixel_size_um_embedded": embedded}) == expected
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=embedded)
    assert warnings(metadata, slide) == ([f"the pixel size in the slide's tags {told}"] if warned else [])


def test_tags_that_may_mean_nothing_are_warned_about(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=1)
    assert warnings({}, slide) == ["pixel size 1 um in the slide's tags looks like a placeholder"]
    assert warnings({"pixel_size_um_estimated": 5}) == ["a pixel of 5 um is unusual: scanners have 0.1 to 2.0 um/px"]
    assert warnings({"pixel_size_um_estimated": 0.1369}) == []


def test_the_size_in_the_tags_is_kept_beside_that_of_the_metadata(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=0.05)
    assert pixel_size({"pixel_size_um_estimated": 0.5}, slide) == (0.5, pytest.approx(0.05), [])
    skewed = write_slide(tmp_path / "skewed.tif", [texture(300, 300)], um_per_px=(0.5, 0.1))
    assert pixel_size({"pixel_size_um_estimated": 0.5}, skewed) == (0.5, None, [])


def test_a_slide_of_another_size_than_stated_is_refused(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 400)])
    check_slide_size(slide, (401, 299), "m.json")
    with pytest.raises(InputError, match=r"found 400 x 300 px, expected 400 x 310 px, as stated in m\.json"):
        check_slide_size(slide, (400, 310), "m.json")
