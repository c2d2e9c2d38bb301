"""Pixel sizes are plausible and agree with their sources and with the spots."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from drawnslides import texture, write_slide
from spotwise.data.pixel_size import scale_warning, um_per_px
from spotwise.errors import InputError


def test_estimated_pixel_size_is_trusted_before_the_slide(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=0.25)
    assert um_per_px({"pixel_size_um_estimated": 0.274}, slide) == 0.274
    assert um_per_px({"pixel_size_um_estimated": None}, slide) == pytest.approx(0.25, rel=1e-6)
    assert um_per_px({"pixel_size_um_estimated": float("nan")}, slide) == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize(
    ("metadata", "tag", "match"),
    [
        ({}, None, "pixel size: found none"),
        ({"pixel_size_um_estimated": 0}, 0.25, "pixel_size_um_estimated: found 0 um/px"),
        ({"pixel_size_um_estimated": -0.5}, 0.25, "found -0.5 um/px"),
        ({"pixel_size_um_estimated": 31.75}, 0.25, "found 31.75 um/px"),
        ({"pixel_size_um_estimated": "20x"}, 0.25, "found '20x'"),
        ({}, 264.58, "openslide.mpp: found 264.58 um/px"),
    ],
)
def test_implausible_pixel_size_is_refused(tmp_path, metadata, tag, match):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 300)], um_per_px=tag)
    with pytest.raises(InputError, match=match):
        um_per_px(metadata, slide)


def test_missing_pixel_size_without_a_slide_is_refused():
    with pytest.raises(InputError, match="metadata of S1: pixel_size_um_estimated: found none"):
        um_per_px({"id": "S1"})


@pytest.mark.parametrize(
    ("embedded", "warned"), [(0.28, True), (0.2767, False), (0.35278, False), (1, False), (None, False)]
)
def test_embedded_pixel_size_that_disagrees_is_logged_unless_it_is_a_placeholder(caplog, embedded, warned):
    with caplog.at_level(logging.WARNING):
        size = um_per_px({"pixel_size_um_estimated": 0.274, "pixel_size_um_embedded": embedded})
    assert size == 0.274
    assert ("differs by" in caplog.text) == warned


@pytest.mark.parametrize(
    ("stated", "warned"), [(100, False), (85, False), (200, True), (None, False), (True, False), (float("nan"), False)]
)
def test_a_pitch_that_disagrees_with_the_metadata_is_described(stated, warned):
    centres = 200.0 * np.indices((3, 4)).reshape(2, -1).T  # 100 um apart at 0.5 um/px
    warning = scale_warning(centres, 0.5, {"inter_spot_dist": stated})
    expected = f"spots are 100 um apart at 0.5 um/px, inter_spot_dist in the metadata is {stated} um"
    assert warning == (expected if warned else None)
