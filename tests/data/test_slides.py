"""Thumbnails show the whole slide."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from drawnslides import halved, texture, write_slide
from spotwise.data import slides
from spotwise.errors import InputError


def test_a_photograph_is_refused(tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=r"photo\.png: slide: found a PNG picture, expected a slide: vips tiffsave"):
        slides.write_thumbnail(tmp_path / "photo.png", tmp_path / "thumbnail.png")
    with pytest.raises(InputError, match=r"absent\.tif: slide: found no such file"):
        slides.write_thumbnail(tmp_path / "absent.tif", tmp_path / "thumbnail.png")


def test_thumbnail_shows_the_whole_slide(tmp_path):
    level_0 = np.zeros((1200, 2400, 3), np.uint8)
    level_0[:, :1200, 0], level_0[:, 1200:, 2] = 200, 200
    slide = write_slide(tmp_path / "slide.tif", [level_0, halved(level_0)])
    slides.write_thumbnail(slide, tmp_path / "thumbnail.png")
    with Image.open(tmp_path / "thumbnail.png") as image:
        assert (image.mode, image.size) == ("RGB", (1000, 500))
        assert image.getpixel((250, 250)) == (200, 0, 0)
        assert image.getpixel((750, 250)) == (0, 0, 200)


def test_a_thumbnail_taken_in_strips_is_that_of_the_whole_slide(tmp_path, monkeypatch):
    slide = write_slide(tmp_path / "slide.tif", [texture(1200, 2400)])
    slides.write_thumbnail(slide, tmp_path / "whole.png", 240)
    monkeypatch.setattr(slides, "_STRIP_PX", 2400 * 170)  # 17 rows of the picture at once, 1 left over
    slides.write_thumbnail(slide, tmp_path / "strips.png", 240)
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "strips.png") as strips:
        assert strips.size == whole.size == (240, 120)
        difference = np.abs(np.asarray(whole, int) - np.asarray(strips, int))
    assert difference.mean() < 0.5
    assert difference.max() < 40  # the filter does not see across the edge of a strip


def test_a_slide_too_large_to_shrink_is_refused_with_the_remedy(tmp_path, monkeypatch):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 400)])
    monkeypatch.setattr(slides, "_MAX_LEVEL_PX", 100_000)
    with pytest.raises(InputError, match=r"slide.tif: slide: found a smallest level of 400 x 300 px, .*--pyramid"):
        slides.write_thumbnail(slide, tmp_path / "thumbnail.png")
    assert not (tmp_path / "thumbnail.png").exists()
    halves = write_slide(tmp_path / "pyramid.tif", [texture(300, 400), texture(150, 200)])
    slides.write_thumbnail(halves, tmp_path / "thumbnail.png", 200)
    with Image.open(tmp_path / "thumbnail.png") as image:
        assert image.size == (200, 150)


def test_slides_imports_nothing_heavy():
    program = "import sys, spotwise.data.slides; print({'torch', 'scanpy', 'anndata'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "set()"
