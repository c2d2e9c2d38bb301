"""The benchmark of tissue outlines marks what it says and counts as glass what is far from spots."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.tissue_outlines import CHANGES, PENS, marked, off_tissue, strokes

GLASS = Image.new("RGB", (800, 600), (240, 235, 238))


def test_ink_darkens_its_strokes_alone():
    drawn = strokes(GLASS.size, 8.0)
    stroke = (np.asarray(drawn) < 255).any(axis=2)
    assert {tuple(colour) for colour in np.asarray(drawn)[stroke].tolist()} == set(PENS.values())
    after = np.asarray(marked(GLASS, drawn, 8.0))
    changed = np.abs(after.astype(int) - np.asarray(GLASS)).max(axis=2) > 3
    assert changed[stroke].mean() > 0.99
    assert changed[~stroke].mean() < 0.05  # the blurred rim


def test_glass_is_further_than_300_um_from_all_spots():
    glass = off_tissue(np.array([[1000.0, 1000.0], [1100.0, 1000.0]]), (2000, 2000), 1.0)
    assert glass.area == pytest.approx(2000**2 - np.pi * 300**2 - 2 * 300 * 100, rel=1e-3)


def test_half_the_stain_is_half_the_optical_density():
    pixels = np.full((10, 10, 3), 200, np.uint8)
    pixels[0] = (100, 50, 100)
    halved = np.asarray(CHANGES["half the stain"](Image.fromarray(pixels)))
    np.testing.assert_allclose(halved[0, 0], 200 * np.sqrt(np.array([100, 50, 100]) / 200), atol=1)
    assert (halved[1:] >= 199).all()
