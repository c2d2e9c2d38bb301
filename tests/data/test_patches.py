"""Patches are what the slide shows around a spot, at the right scale."""

from __future__ import annotations

from importlib import metadata
from threading import Barrier, get_ident

import h5py
import numpy as np
import openslide
import pytest

from drawnslides import halved, images_by_barcode, texture, write_slide
from spotwise.data import patches as module
from spotwise.data.patch_files import read_patches_index
from spotwise.data.patches import check_slide, extract_patches
from spotwise.data.tiles import TiffTiles
from spotwise.errors import InputError


def cubic_weights(n_source, start, size, n_target):
    """(n_target, n_source) weights of Keys' cubic (a = -1/2), widened where it shrinks: the textbook formula."""
    scale = max(1.0, size / n_target)
    centres = start + (np.arange(n_target) + 0.5) * size / n_target
    t = np.abs((np.arange(n_source) + 0.5 - centres[:, None]) / scale)
    weights = np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def reference_patch(level_image, downsample, centre, um_per_px):
    """Pad the whole level with white, then weigh every pixel of it: slow and obvious."""
    pad = 600
    padded = np.pad(level_image.astype(float), ((pad, pad), (pad, pad), (0, 0)), constant_values=255)
    size = round(112 / um_per_px)
    x, y = ((np.floor(np.array(centre) - size / 2 + 0.5)) / downsample) + pad
    rows = cubic_weights(padded.shape[0], y, size / downsample, 224)
    columns = cubic_weights(padded.shape[1], x, size / downsample, 224)
    across = np.einsum("hwc,jw->hjc", padded, columns, optimize=True)
    across = np.clip(across.round(), 0, 255)  # Pillow holds 8 bits between its passes
    return np.clip(np.einsum("ih,hjc->ijc", rows, across, optimize=True), 0, 255)


@pytest.mark.parametrize(("um_per_px", "level"), [(0.25, 1), (0.274, 0), (0.5, 0), (0.6885, 0)])
def test_patches_equal_a_slow_reference(tmp_path, um_per_px, level):
    level_0 = texture(700, 900)
    levels = [level_0, halved(level_0)]
    slide = write_slide(tmp_path / "slide.tif", levels)
    centres = np.array([[450.3, 350.8], [20.0, 690.0], [899.0, 0.0], [-40.0, 300.0]])
    facts = extract_patches(slide, centres, list("abcd"), um_per_px, tmp_path / "patches.h5")
    patches = images_by_barcode(tmp_path / "patches.h5")
    assert facts["level"] == level
    for barcode, centre in zip("abcd", centres, strict=True):
        difference = np.abs(patches[barcode] - reference_patch(levels[level], 2**level, centre, um_per_px))
        assert difference.max() <= 1.0 + 1e-6  # the second pass rounds once more
        assert difference.mean() < 0.3  # rounding alone gives 0.25


@pytest.mark.parametrize(
    ("um_per_px", "colour"),
    [(0.6885, "red"), (0.5, "red"), (0.26, "red"), (0.25, "green"), (0.2, "green"), (0.125, "blue"), (0.06, "blue")],
)
def test_the_coarsest_level_that_resolves_the_target_is_read(tmp_path, um_per_px, colour):
    red, green, blue = (np.full((n, n, 3), 255 * np.eye(3)[c], np.uint8) for c, n in enumerate((2401, 1200, 600)))
    slide = write_slide(tmp_path / "slide.tif", [red, green, blue])
    facts = extract_patches(slide, [[1200, 1200]], ["a"], um_per_px, tmp_path / "patches.h5")
    (patch,) = images_by_barcode(tmp_path / "patches.h5").values()
    expected = ("red", "green", "blue").index(colour)
    assert facts["level"] == expected
    assert (patch.argmax(axis=2) == expected).all()


@pytest.mark.parametrize("um_per_px", [0.1, 0.25, 0.37, 0.5, 0.9])
def test_a_dot_at_the_spot_centre_lands_in_the_middle_of_its_patch(tmp_path, um_per_px):
    y, x = np.mgrid[:1600, :1600] + 0.5
    centre = np.array([801.6, 793.2])
    radius = 6 / um_per_px
    dot = np.hypot(x - centre[0], y - centre[1]) < radius
    level_0 = np.repeat(np.where(dot, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    levels = [level_0, halved(level_0), halved(halved(level_0))]
    slide = write_slide(tmp_path / "slide.tif", levels)
    extract_patches(slide, [centre], ["a"], um_per_px, tmp_path / "patches.h5")
    (patch,) = images_by_barcode(tmp_path / "patches.h5").values()
    darkness = 255.0 - patch[..., 0]
    rows, columns = np.indices(darkness.shape) + 0.5
    found = np.array([(columns * darkness).sum(), (rows * darkness).sum()]) / darkness.sum()
    # the corner is an integer: half a pixel of level 0, which is um_per_px / 0.5 pixels of the patch
    assert np.abs(found - 112).max() <= 0.5 * um_per_px / 0.5 + 0.1


@pytest.mark.parametrize("um_per_px", [0.16, 0.25, 0.33, 0.5, 0.7, 1.0])
def test_a_square_of_56_um_covers_half_the_patch_at_any_resolution(tmp_path, um_per_px):
    level_0 = np.full((1400, 1400, 3), 255, np.uint8)
    half = round(28 / um_per_px)
    level_0[700 - half : 700 + half, 700 - half : 700 + half] = 0
    slide = write_slide(tmp_path / "slide.tif", [level_0, halved(level_0)])
    extract_patches(slide, [[700, 700]], ["a"], um_per_px, tmp_path / "patches.h5")
    (patch,) = images_by_barcode(tmp_path / "patches.h5").values()
    darkness = 1 - patch[..., 0] / 255
    rounding = um_per_px / 0.5  # the square and the patch are whole pixels of level 0
    assert darkness[112].sum() == pytest.approx(112, abs=0.5 + rounding)
    assert darkness[:, 112].sum() == pytest.approx(112, abs=0.5 + rounding)


def test_glass_beyond_the_slide_is_white(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [np.zeros((300, 300, 3), np.uint8)])
    extract_patches(slide, [[0, 150]], ["a"], 0.5, tmp_path / "patches.h5")
    (patch,) = images_by_barcode(tmp_path / "patches.h5").values()
    assert (patch[:, :112] == 255).all()
    assert (patch[38 + 3 :, 112:] == 0).all()


def test_patches_wholly_outside_the_slide_are_dropped_by_name_and_counted(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 400)])
    centres = [[200, 150], [-112, 150], [-111, 150], [200, 412], [511, 411], [512, 150]]
    facts = extract_patches(slide, centres, list("abcdef"), 0.5, tmp_path / "patches.h5")
    assert facts["dropped_outside_slide"] == ["b", "d", "f"]
    assert list(images_by_barcode(tmp_path / "patches.h5")) == ["a", "c", "e"]
    warning = "3 of 6 spots are left out, as their patches lie wholly outside the slide"
    assert check_slide(slide, centres, 0.5) == ({"n_spots_without_patch": 3}, [warning])


def test_patches_name_the_software_that_read_the_slide(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 400)])
    extract_patches(slide, [[200, 150]], ["a"], 0.5, tmp_path / "patches.h5")
    with h5py.File(tmp_path / "patches.h5") as file:
        named = dict(reader.split() for reader in file["img"].attrs["readers"].split(", "))
    assert named.pop("OpenSlide") == openslide.__library_version__
    assert set(named) == {"openslide-python", "openslide-bin", "tifffile", "imagecodecs", "pillow"}
    assert all(version == metadata.version(name) for name, version in named.items())


def test_no_patch_on_the_slide_is_an_error_that_leaves_no_file(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(300, 400)])
    with pytest.raises(InputError, match="all 1 patches outside"):
        extract_patches(slide, [[5000, 5000]], ["a"], 0.5, tmp_path / "out" / "patches.h5")
    assert not (tmp_path / "out").exists()


def test_patch_file_has_the_schema_of_hest(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(700, 900)])
    centres = np.array([[400.4, 300.0], [500.0, 350.6]])
    extract_patches(slide, centres, ["010x011", "010x012"], 0.274, tmp_path / "patches.h5")
    with h5py.File(tmp_path / "patches.h5") as file:
        assert set(file) == {"img", "coords", "barcode"}
        assert (file["img"].shape, file["img"].dtype) == ((2, 224, 224, 3), np.uint8)
        assert file["img"].chunks == (1, 224, 224, 3)
        assert (file["coords"].shape, file["coords"].dtype) == ((2, 2), np.int64)
        assert file["barcode"].shape == (2, 1)
        assert h5py.check_string_dtype(file["barcode"].dtype).encoding == "utf-8"
        for name in ("img", "coords"):
            attrs = file[name].attrs
            assert attrs["patch_size_src"] == 409  # 112 um / 0.274 um, HEST's own figure for the liver slides
            assert attrs["patch_size_target"] == 224
            assert attrs["downsample"] == pytest.approx(0.5 / 0.274)
            assert attrs["pixel_size"] == 0.274
    barcodes, coords, attrs = read_patches_index(tmp_path / "patches.h5")
    assert barcodes.tolist() == ["010x011", "010x012"]
    assert np.abs(coords + attrs["patch_size_src"] / 2 - centres).max() <= 0.5


def test_order_of_the_spots_changes_the_order_in_the_file_only(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(900, 900)])
    rng = np.random.default_rng(1)
    centres, barcodes = rng.uniform(0, 900, (12, 2)), np.array([f"s{n}" for n in range(12)])
    shuffled = rng.permutation(12)
    extract_patches(slide, centres, barcodes, 0.5, tmp_path / "a.h5")
    extract_patches(slide, centres[shuffled], barcodes[shuffled], 0.5, tmp_path / "b.h5")
    a, b = images_by_barcode(tmp_path / "a.h5"), images_by_barcode(tmp_path / "b.h5")
    assert list(b) == barcodes[shuffled].tolist()
    assert all(np.array_equal(a[barcode], b[barcode]) for barcode in barcodes)


@pytest.mark.parametrize("tile", [True, False])
def test_a_patch_at_the_scale_of_the_slide_shows_its_exact_pixels_and_white_beyond(tmp_path, tile, monkeypatch):
    if not tile:
        monkeypatch.setattr(TiffTiles, "of_level", lambda *_: None)
    level = texture(700, 900)
    path = write_slide(tmp_path / "slide.tif", [level])
    centres = np.array([[450, 350], [300.4, 290.6], [3, 5], [899, 699], [450, 2]])
    extract_patches(path, centres, list("abcde"), 0.5, tmp_path / "patches.h5")
    with h5py.File(tmp_path / "patches.h5") as file:
        coords, patches = file["coords"][:], file["img"][:]
    on_white = np.pad(level, ((300, 300), (300, 300), (0, 0)), constant_values=255)
    np.testing.assert_array_equal(coords, np.floor(centres - 112 + 0.5))
    for (x, y), patch in zip(coords + 300, patches, strict=True):
        np.testing.assert_array_equal(patch, on_white[y : y + 224, x : x + 224])


def test_few_patches_keep_all_threads_at_work(tmp_path, monkeypatch):
    slide = write_slide(tmp_path / "slide.tif", [texture(900, 900)])
    centres = np.random.default_rng(2).uniform(100, 800, (40, 2))
    at_work, begun, read = Barrier(3), set(), module._read_patch

    def read_together(*arguments):
        if get_ident() not in begun:
            begun.add(get_ident())
            at_work.wait(60)  # fails unless all three arrive
        return read(*arguments)

    monkeypatch.setattr(module, "_read_patch", read_together)
    extract_patches(slide, centres, list(map(str, range(40))), 0.5, tmp_path / "patches.h5", threads=3)


def test_patches_lie_in_the_file_in_the_order_of_the_spots(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(900, 900)])
    centres = np.random.default_rng(1).uniform(100, 800, (40, 2))
    content = []
    for threads in (1, 2):
        extract_patches(slide, centres, list(map(str, range(40))), 0.5, tmp_path / "a.h5", threads=threads)
        content.append((tmp_path / "a.h5").read_bytes())
    assert content[0] == content[1]
    with h5py.File(tmp_path / "a.h5") as file:
        places = [file["img"].id.get_chunk_info_by_coord((row, 0, 0, 0)).byte_offset for row in range(40)]
    assert places == sorted(places)


@pytest.mark.parametrize("content", [b"", b"no slide at all", b"II*\x00\x08\x00\x00\x00"])
def test_files_that_are_not_slides_are_refused_in_one_line(tmp_path, content):
    slide = tmp_path / "slide.tif"
    slide.write_bytes(content)
    with pytest.raises(InputError, match=r"slide.tif: slide: found") as error:
        extract_patches(slide, [[1, 1]], ["a"], 0.5, tmp_path / "patches.h5")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide.tif"]


def test_truncated_slide_is_refused_and_leaves_no_patches(tmp_path):
    slide = write_slide(tmp_path / "slide.tif", [texture(1000, 1000)])
    slide.write_bytes(slide.read_bytes()[: slide.stat().st_size // 2])
    with pytest.raises(InputError, match=r"slide.tif: slide: found"):
        extract_patches(slide, [[500, 100], [500, 900]], ["a", "b"], 0.5, tmp_path / "patches.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slide.tif"]
