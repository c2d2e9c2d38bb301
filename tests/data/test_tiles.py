"""Tiles decoded directly show what OpenSlide shows, and each is decoded once."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from drawnslides import halved, images_by_barcode, texture, write_slide
from spotwise.data import patches, slides, tiles
from spotwise.data.tiles import TiffTiles


@pytest.mark.parametrize("compression", ["adobe_deflate", "lzw", None, "jpeg"])
def test_tiles_decoded_directly_show_what_openslide_shows(tmp_path, compression, monkeypatch):
    path = tmp_path / "slide.tif"
    options = {"photometric": "rgb", "tile": (128, 256), "compression": compression, "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        level_0 = texture(992, 1040)
        tiff.write(level_0, **options)
        tiff.write(halved(level_0), subfiletype=1, **options)
    rng = np.random.default_rng(2)
    centres = np.concatenate([rng.uniform(-80, 1100, (30, 2)), [[0, 0], [1040, 992]]])
    barcodes = list(map(str, range(len(centres))))
    for um_per_px in (0.25, 0.4, 0.5):  # level 1, and level 0 resized and as it is
        found = []
        for directly in (True, False):
            with monkeypatch.context() as patched:
                if not directly:
                    patched.setattr(TiffTiles, "of_level", lambda *_: None)
                patches.extract_patches(path, centres, barcodes, um_per_px, tmp_path / "patches.h5", threads=2)
            found.append(images_by_barcode(tmp_path / "patches.h5"))
        assert list(found[0]) == list(found[1])
        for barcode, patch in found[0].items():
            np.testing.assert_array_equal(patch, found[1][barcode])


def test_tiles_are_decoded_directly_only_where_openslide_lays_them_side_by_side(tmp_path):
    level_0 = texture(700, 901)
    path = write_slide(tmp_path / "slide.tif", [level_0, halved(level_0)])
    with slides.open_slide(path) as slide:
        assert not slide.level_downsamples[1].is_integer()
        assert TiffTiles.of_level(path, slide, 0) is not None
        assert TiffTiles.of_level(path, slide, 1) is None


# with room for one, the last tile of the first region is still there for the second
@pytest.mark.parametrize(("kept", "expected", "decoded"), [(12, 2, 12), (1, 2, 23), (12, 1, 24)])
def test_each_tile_is_decoded_once_while_it_is_kept(tmp_path, kept, expected, decoded, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_CACHE_BYTES", 3 * 256 * 256 * kept)
    path = write_slide(tmp_path / "slide.tif", [texture(700, 900)])
    with slides.open_slide(path) as slide, open(path, "rb") as file:
        level = TiffTiles.of_level(path, slide, 0)
        found, decode = [], level.decode
        level.decode = lambda content, index, **tables: found.append(index) or decode(content, index, **tables)
        level.expect([(-10, -10, 1000)] * expected)
        for _ in range(2):
            level.region(file.fileno(), -10, -10, 1000)
        assert not level.cache  # nobody waits for any
    assert len(found) == decoded
    assert set(found) == set(range(12))


def test_tiles_are_decoded_once_for_all_patches_and_freed_when_the_last_has_been_cut(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "slide.tif", [texture(2000, 2000)])
    decoded, most = [], []
    of_level = TiffTiles.of_level

    def watched(*arguments):
        level = of_level(*arguments)
        decode = level.decode

        def note(content, index, **tables):
            decoded.append(index)
            most.append(len(level.cache))
            return decode(content, index, **tables)

        level.decode = note
        return level

    monkeypatch.setattr(TiffTiles, "of_level", watched)
    centres = np.stack(np.meshgrid(*[np.arange(120, 1900, 100)] * 2), axis=-1).reshape(-1, 2)
    patches.extract_patches(path, centres, list(map(str, range(len(centres)))), 0.5, tmp_path / "patches.h5")
    assert sorted(decoded) == list(range(64))
    assert max(most) <= 3 * 8  # rows of eight tiles that one band of patches shows
