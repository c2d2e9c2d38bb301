"""Spots that would lie better on the tissue in another orientation are reported, and spots that lie well are not."""

import numpy as np
import pytest
from PIL import Image

from spotwise.data.orientation import ORIENTATIONS, on_tissue
from spotwise.data.tissue import tissue_mask

SIZE = (4000, 4000)
GRID = 100.0 + 200.0 * np.indices((20, 20)).reshape(2, -1).T
# How coordinates on a slide (x, y) come to be wrong, by the orientation that puts them right again
MISTAKES = {
    "mirrored left to right": lambda x, y, w, h: (w - x, y),
    "mirrored top to bottom": lambda x, y, w, h: (x, h - y),
    "turned by 180 degrees": lambda x, y, w, h: (w - x, h - y),
    "with x and y exchanged": lambda x, y, w, h: (y, x),
    "turned clockwise by 90 degrees": lambda x, y, w, h: (y, w - x),
    "turned counterclockwise by 90 degrees": lambda x, y, w, h: (h - y, x),
    "with x and y exchanged and turned by 180 degrees": lambda x, y, w, h: (h - y, w - x),
}


def section(size=SIZE, noise=4, ink=False):
    """Draw a tissue without symmetry, a thick L in a corner, and its spots."""
    rng = np.random.default_rng(0)
    width, height = size[0] // 10, size[1] // 10
    pixels = np.full((height, width, 3), 240.0)
    tissue = np.zeros((height, width), bool)
    tissue[30:330, 40:120] = tissue[250:330, 40:300] = True
    holes = rng.random((height, width)) < 0.3  # white between the cells
    pixels[tissue & ~holes] = (190, 130, 180)
    if ink:
        pixels[350:390] = 2
    pixels += rng.normal(0, noise, pixels.shape)
    on = tissue[(GRID[:, 1] // 10).astype(int), (GRID[:, 0] // 10).astype(int)]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), GRID[on]


def test_spots_on_the_tissue_are_not_reported():
    picture, spots = section()
    shares, warnings = on_tissue(spots, np.full(len(spots), 900), picture, SIZE)
    assert warnings == []
    assert list(shares) == list(ORIENTATIONS)
    assert shares["as given"] > 0.95 > 0.8 > max(share for name, share in shares.items() if name != "as given")


@pytest.mark.parametrize("size", [SIZE, (4000, 5000), (5000, 4000)])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_orientation_that_puts_spots_right_is_named(mistake, size):
    picture, spots = section(size)
    wrong = np.stack(MISTAKES[mistake](*spots.T, *size), axis=1)
    shares, (warning,) = on_tissue(wrong, np.full(len(spots), 900), picture, size)
    assert (
        f"{shares['as given']:.0%} of the spots lie on tissue, but {shares[mistake]:.0%} would, {mistake}:" in warning
    )
    np.testing.assert_allclose(ORIENTATIONS[mistake](*wrong.T, *size), spots.T)


def test_spots_of_the_whole_array_are_told_by_their_counts():
    picture, spots = section()
    counts = np.where((GRID[:, None] == spots).all(axis=2).any(axis=1), 900, 20)
    assert on_tissue(GRID, counts, picture, SIZE)[0]["as given"] > 0.95
    assert on_tissue(GRID, counts, picture, SIZE)[1] == []
    (warning,) = on_tissue(GRID[:, ::-1], counts, picture, SIZE)[1]
    assert "x and y exchanged" in warning


def test_ink_is_no_tissue():
    picture, spots = section(ink=True)
    assert not tissue_mask(picture, 0.02)[230:245].any()
    assert on_tissue(spots, np.full(len(spots), 9), picture, SIZE)[1] == []


def test_few_spots_on_tissue_are_reported():
    picture, _ = section()
    centre = GRID[((GRID > 1700) & (GRID < 2300)).all(axis=1)]
    _, (warning,) = on_tissue(centre, np.full(len(centre), 9), picture, SIZE)
    assert warning == "only 0% of the spots lie on tissue: check coordinates and slide"


def test_a_picture_that_cannot_tell_tells_nothing():
    picture, spots = section()
    counts = np.full(len(spots), 900)
    assert on_tissue(spots, counts, Image.new("RGB", (400, 400), "white"), SIZE) == ({}, [])  # only glass
    full = Image.fromarray(np.random.default_rng(0).integers(60, 250, (400, 400, 3), dtype=np.uint8))
    assert on_tissue(spots, counts, full, SIZE) == ({}, [])  # only tissue
    assert on_tissue(spots, counts, picture, (4000, 4400)) == ({}, [])  # the picture of another slide
    assert on_tissue(spots[:1], counts[:1], picture, SIZE) == ({}, [])


def test_a_tissue_that_is_its_own_mirror_image_is_not_reported():
    pixels = np.full((400, 400, 3), 240, np.uint8)
    pixels[100:300, 100:300] = (190, 130, 180)
    inside = GRID[((GRID > 1000) & (GRID < 3000)).all(axis=1)]
    for spots in (inside, inside[:, ::-1]):
        assert on_tissue(spots, np.full(len(spots), 9), Image.fromarray(pixels), SIZE)[1] == []


def test_a_few_spots_beyond_the_margin_are_chance():
    picture, spots = section()
    moved = spots.copy()
    moved[:3] = [[3900, 3900], [3700, 3900], [3500, 3900]]
    assert on_tissue(moved, np.full(len(spots), 9), picture, SIZE)[1] == []
