"""Tissue is told from glass, haze, ink, dust and the edges of the glass."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spotwise.data.tissue_detection import detect_tissue
from stainedpictures import INKS, UM_PER_PX, Slide, stroke

SIZE = (400, 300)
SECTION = stroke(SIZE, (60, 60, 260, 240))


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def found_in(slide, um_per_px=UM_PER_PX):
    return detect_tissue(slide.picture(), um_per_px)


@pytest.mark.parametrize("glass", [(255, 255, 255), (236, 222, 236), (225, 225, 205)])
def test_a_section_is_found_on_glass_of_any_tint(glass):
    found = found_in(Slide(SIZE, np.array(glass)).tissue(SECTION))
    assert overlap(found.tissue, SECTION) > 0.95
    assert not found.ink.any()


def test_haze_of_stain_around_a_section_is_no_tissue():
    haze = stroke(SIZE, (20, 20, 390, 290))
    found = found_in(Slide(SIZE).haze(haze).tissue(SECTION))
    assert overlap(found.tissue, SECTION) > 0.95


def test_fat_with_clear_cells_is_tissue():
    """Thin strands around clear cells 100 um wide; the mean colour is that of the haze."""
    rows, columns = np.indices(SIZE[::-1])
    strands = SECTION & ((rows % 12 < 2) | (columns % 12 < 2))
    found = found_in(Slide(SIZE).tissue(strands, contrast=0.2))
    assert overlap(found.tissue, SECTION) > 0.9


@pytest.mark.parametrize("colour", INKS.values(), ids=INKS)
def test_pen_marks_are_no_tissue(colour):
    mark = stroke(SIZE, (300, 20, 380, 150, 290, 280), 30)
    found = found_in(Slide(SIZE).tissue(SECTION).ink(mark, colour))
    assert not (found.tissue & mark).any()
    assert found.ink[mark].mean() > 0.95
    assert overlap(found.tissue, SECTION) > 0.9


@pytest.mark.parametrize("name", ["green", "black"])
def test_ink_across_a_section_is_cut_out_of_it(name):
    mark = stroke(SIZE, (20, 150, 390, 150), 20)
    found = found_in(Slide(SIZE).tissue(SECTION).ink(mark, INKS[name]))
    assert not (found.tissue & mark).any()
    far = SECTION & (np.abs(np.arange(SIZE[1]) - 150) > 25)[:, None]
    assert found.tissue[far].mean() > 0.95


def test_a_slide_with_ink_alone_has_no_tissue():
    slide = Slide(SIZE)
    for number, colour in enumerate(INKS.values()):
        slide.ink(stroke(SIZE, (40 + 90 * number, 30, 80 + 90 * number, 270), 25), colour)
    assert not found_in(slide).tissue.any()


def test_black_bands_grey_edges_and_dust_are_no_tissue():
    slide = Slide(SIZE).tissue(SECTION)
    band, edge = np.zeros(SIZE[::-1], bool), np.zeros(SIZE[::-1], bool)
    band[:, 380:], edge[:12] = True, True
    slide.density[band] = 3
    slide.density += edge[..., None] * (0.2 + 0.1 * slide.noise())[..., None]
    slide.density += stroke(SIZE, (300, 100, 330, 130))[..., None] * 0.3
    found = found_in(slide)
    assert overlap(found.tissue, SECTION) > 0.95


def test_a_coloured_strip_along_the_edge_is_no_tissue_and_a_cut_section_is():
    strip, cut = np.zeros(SIZE[::-1], bool), stroke(SIZE, (200, 100, 500, 400))
    strip[:, :12] = True  # 96 um
    found = found_in(Slide(SIZE).tissue(strip).tissue(cut))
    assert overlap(found.tissue, cut) > 0.95


def test_small_pieces_are_dropped_and_small_holes_filled():
    """Pieces of 0.03 and 0.15 mm2 beside the section, holes of 0.03 and 0.2 mm2 in it."""
    crumb, piece = stroke(SIZE, (300, 30, 324, 54)), stroke(SIZE, (300, 100, 355, 155))
    vessel, tear = stroke(SIZE, (100, 140, 124, 164)), stroke(SIZE, (160, 120, 223, 183))
    found = found_in(Slide(SIZE).tissue((SECTION | crumb | piece) & ~vessel & ~tear)).tissue
    assert not (found & crumb).any()
    assert found[piece].mean() > 0.9
    assert found[vessel].all()
    assert found[tear].mean() < 0.2


def test_a_slide_without_glass_is_tissue():
    everywhere = np.ones(SIZE[::-1], bool)
    assert found_in(Slide(SIZE).tissue(everywhere)).tissue.mean() > 0.98


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", SIZE, "white"),
        Image.new("RGB", SIZE, (128, 128, 128)),
        Image.new("RGB", (1, 1), "white"),
        Slide(SIZE).picture(),
        Slide(SIZE).haze(stroke(SIZE, (100, 100, 200, 200)), 2).picture(),
    ],
    ids=["white", "grey", "one pixel", "glass", "haze"],
)
def test_a_slide_without_tissue_has_none(picture):
    assert not detect_tissue(picture, UM_PER_PX).tissue.any()


def test_the_outline_hardly_depends_on_the_size_of_the_picture():
    slide = Slide((1600, 1200)).tissue(stroke((1600, 1200), (240, 240, 1040, 960)), contrast=0.9)
    fine = detect_tissue(slide.picture(), 2.0).tissue
    assert fine.shape == SIZE[::-1]
    assert overlap(fine, SECTION) > 0.93
