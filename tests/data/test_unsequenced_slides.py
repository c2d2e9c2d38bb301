"""A slide is predicted at the pixel size that it has, or refused with the way to give one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from drawnslides import halved, write_slide
from spotwise.data import unsequenced_slides
from spotwise.data.unsequenced_slides import slide_facts, slide_picture, write_picture
from spotwise.errors import InputError
from stainedpictures import Slide, stroke

SECTION = np.asarray(Slide((640, 480)).tissue(stroke((640, 480), (100, 100, 500, 400))).picture())


def slide(folder, um_per_px=None, level=SECTION):
    return write_slide(folder / "slide.tif", [level], um_per_px)


# --- pixel size -------------------------------------------------------------------------------------------------------


def test_the_size_in_the_tags_is_taken(tmp_path):
    facts = slide_facts(slide(tmp_path, 0.25), "a.tif")
    assert facts["um_per_px"] == pytest.approx(0.25)
    assert {key: facts[key] for key in ("source", "width", "height", "um_per_px_from", "warnings")} == {
        "source": "a.tif",
        "width": 640,
        "height": 480,
        "um_per_px_from": "the slide's tags",
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("tagged", "given", "warnings"),
    [
        (None, 0.5, []),
        (0.5, 0.505, []),
        (0.5, 0.25, ["um_per_px 0.25 is used, the slide's tags say 0.5"]),
        (1.0, 0.25, []),  # a placeholder is no second opinion
        ((0.25, 0.5), 0.25, []),
        (28.97, 0.25, ["um_per_px 0.25 is used, the slide's tags say 28.97"]),
    ],
)
def test_the_users_size_comes_first_and_differences_are_said(tmp_path, tagged, given, warnings):
    facts = slide_facts(slide(tmp_path, tagged), "a.tif", given)
    assert (facts["um_per_px"], facts["um_per_px_from"], facts["warnings"]) == (given, "user", warnings)


def test_a_coarse_size_is_said(tmp_path):
    (warning,) = slide_facts(slide(tmp_path, 1.0), "a.tif", 1.0)["warnings"]
    assert warning == "a pixel of 1 um is coarse: patches of 112 um are enlarged 2.0 times to 224 px"
    assert slide_facts(slide(tmp_path, 0.688), "a.tif")["warnings"] == []  # as her2st's slides


GIVE = (
    r"expected micrometres per pixel: give it in the column um_per_px of the slides' table, or with --config 'predict="
)


@pytest.mark.parametrize(
    ("tagged", "given", "found"),
    [
        (
            None,
            None,
            rf"a\.tif: pixel size: found none in the slide's tags, {GIVE}\{{slides: \[\{{path: a\.tif, um_per",
        ),
        (1.0, None, rf"a\.tif: pixel size: found 1 in the slide's tags, which means unknown, {GIVE}"),
        (
            28.97,
            None,
            r"a\.tif: pixel size: found 28\.97 um/px, which is too coarse, expected at most 1\.1 um/px \(10x\)",
        ),
        (352.78, None, r"found 352\.8 um/px, which is too coarse, .*; if the slide's tags are wrong, give um_per_px$"),
        ((0.25, 0.5), None, r"pixel size: found 0\.25 by 0\.5 um/px in its tags, expected square pixels"),
        (0.02, None, r"pixel size: found 0\.02 um/px, expected between 0\.06 and 1\.1 um/px"),
        (0.5, 4.0, r"a\.tif: um_per_px: found 4 um/px, which is too coarse, .* would be made of 28$"),
        (0.5, -0.5, r"um_per_px: found -0\.5 um/px, expected between 0\.06 and 1\.1 um/px$"),
        (0.5, float("nan"), r"um_per_px: found nan um/px"),
    ],
)
def test_a_slide_without_a_usable_size_is_refused_in_one_line(tmp_path, tagged, given, found):
    with pytest.raises(InputError, match=found) as error:
        slide_facts(slide(tmp_path, tagged), "a.tif", given)
    assert "\n" not in str(error.value)


def test_the_table_of_slides_is_named_where_its_size_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"slides\.tsv, row 2: um_per_px: found 250 um/px"):
        slide_facts(slide(tmp_path, 0.5), "a.tif", 250, "slides.tsv, row 2")


# --- picture ----------------------------------------------------------------------------------------------------------


def test_the_picture_shows_the_whole_slide(tmp_path):
    picture, warnings = slide_picture(slide(tmp_path, 0.5), "a.tif", 0.5)
    np.testing.assert_array_equal(np.asarray(picture), SECTION)
    assert warnings == []


def test_the_picture_is_as_fine_as_tissue_is_detected_within_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(unsequenced_slides, "HIRES_PX", 40)
    path = write_slide(tmp_path / "slide.tif", [SECTION, halved(SECTION)], 1.0)
    assert slide_picture(path, "a.tif", 1.0)[0].size == (80, 60)
    monkeypatch.setattr(unsequenced_slides, "MAX_PICTURE_PIXELS", 48 * 36)
    assert slide_picture(path, "a.tif", 1.0)[0].size == (48, 36)
    monkeypatch.setattr(unsequenced_slides, "HIRES_PX", 2000)
    assert slide_picture(path, "a.tif", 1.0)[0].size == (640, 480)  # never enlarged


GREY = np.repeat(SECTION[..., :1], 3, axis=2)
FLUORESCENCE = np.where(stroke((640, 480), (100, 100, 500, 400))[..., None], [10, 20, 90], 0).astype(np.uint8)
FLUORESCENCE[::9, ::7] = [20, 40, 255]


@pytest.mark.parametrize(
    ("level", "found"),
    [
        (np.full_like(SECTION, 255), r"a blank slide of the colour \(255, 255, 255\), expected an H&E slide"),
        (np.zeros_like(SECTION), r"a blank slide of the colour \(0, 0, 0\)"),
        (SECTION // 16, r"a dark picture \(median brightness \d+ of 255\), .*10 to 15 bits stored in 16"),
        (FLUORESCENCE // 2, "a dark picture .*fluorescence cannot stand for it"),
        (GREY, "a picture without colours"),
    ],
    ids=["white", "black", "12 bits in 16", "fluorescence", "grey"],
)
def test_a_picture_that_is_no_brightfield_is_refused_in_one_line(tmp_path, level, found):
    with pytest.raises(InputError, match=rf"a\.tif: slide: found {found}") as error:
        slide_picture(slide(tmp_path, 0.5, level), "a.tif", 0.5)
    assert "\n" not in str(error.value)


def test_a_dim_slide_is_said(tmp_path):
    _, (warning,) = slide_picture(slide(tmp_path, 0.5, SECTION // 3), "a.tif", 0.5)
    assert warning.startswith("the slide is dim (brightness 7")


def test_black_areas_that_were_not_scanned_do_not_make_a_slide_dark(tmp_path):
    level = SECTION.copy()
    level[:, 150:] = 0
    assert slide_picture(slide(tmp_path, 0.5, level), "a.tif", 0.5)[1] == []


def test_pictures_are_reduced_and_never_enlarged(tmp_path):
    for edge, size in ((320, (320, 240)), (2000, (640, 480))):
        write_picture(Image.fromarray(SECTION), edge, tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as picture:
            assert (picture.mode, picture.size) == ("RGB", size)
