"""Slides are shown as they mean, or refused with the way to convert them; real forms keep working."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from drawnslides import halved, images_by_barcode, texture, write_slide
from spotwise.data import slides
from spotwise.data.patches import check_slide, extract_patches
from spotwise.errors import InputError

LEVEL = texture(700, 900)
GREY = LEVEL[..., 0]
OPTIONS = {"photometric": "rgb", "tile": (128, 128), "compression": "adobe_deflate", "metadata": None}
INVERSE = np.dstack([255 - LEVEL, np.zeros_like(GREY)])
RAMP = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 128)]).astype(np.uint16) * 257


def write(path, *levels, **options):
    with tifffile.TiffWriter(
        path, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", "<")
    ) as tiff:
        for number, level in enumerate(levels or [LEVEL]):
            tiff.write(level, subfiletype=int(number > 0), **OPTIONS | options)
    return path


def write_ome(path, data, **options):
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(data, tile=(128, 128), compression="adobe_deflate", **options)
        if options.get("subifds"):
            tiff.write(halved(data), tile=(128, 128), compression="adobe_deflate", subfiletype=1, photometric="rgb")
    return path


def with_alpha(value, kind):
    return np.dstack([LEVEL, np.full_like(GREY, value)]), {"extrasamples": [kind]}


# --- shown right ------------------------------------------------------------------------------------------------------

RIGHT = {
    "LZW with predictor, pyramid": lambda path: write(path, LEVEL, halved(LEVEL), compression="lzw", predictor=True),
    "zstd": lambda path: write(path, compression="zstd"),
    "big-endian BigTIFF": lambda path: write(path, byteorder=">", bigtiff=True),
    "planar": lambda path: write(path, np.ascontiguousarray(np.moveaxis(LEVEL, 2, 0)), planarconfig="separate"),
    "16 bits": lambda path: write(path, LEVEL.astype(np.uint16) * 257),
    "CMYK": lambda path: write(path, INVERSE, photometric="separated"),
    "opaque": lambda path: write(path, with_alpha(255, 2)[0], extrasamples=["unassalpha"]),
    "OME-TIFF with a pyramid in SubIFDs": lambda path: write_ome(path, LEVEL, photometric="rgb", subifds=1),
    "Orientation 1": lambda path: write(path, extratags=[(274, "H", 1, 1, True)]),
    "Orientation 0": lambda path: write(path, extratags=[(274, "H", 1, 0, True)]),
    "a second picture, not reduced": lambda path: tifffile.imwrite(path, np.stack([LEVEL, LEVEL[::-1]]), **OPTIONS),
}


@pytest.mark.parametrize("form", RIGHT.values(), ids=RIGHT)
def test_valid_forms_of_a_tiff_show_their_exact_pixels(tmp_path, form):
    form(tmp_path / "slide.tif")
    extract_patches(tmp_path / "slide.tif", [[450, 350]], ["a"], 0.5, tmp_path / "patches.h5")
    patch = images_by_barcode(tmp_path / "patches.h5")["a"]
    np.testing.assert_array_equal(patch, LEVEL[238:462, 338:562])


def test_a_palette_is_looked_up(tmp_path):
    write(tmp_path / "slide.tif", GREY, photometric="palette", colormap=RAMP)
    extract_patches(tmp_path / "slide.tif", [[450, 350]], ["a"], 0.5, tmp_path / "patches.h5")
    patch = images_by_barcode(tmp_path / "patches.h5")["a"]
    np.testing.assert_array_equal(patch, (np.moveaxis(RAMP, 0, 1)[GREY] // 257)[238:462, 338:562])


def test_transparency_is_shown_on_white(tmp_path):
    level, options = with_alpha(102, 2)
    write(tmp_path / "slide.tif", level, **options)
    extract_patches(tmp_path / "slide.tif", [[450, 350]], ["a"], 0.5, tmp_path / "patches.h5")
    patch = images_by_barcode(tmp_path / "patches.h5")["a"]
    expected = 0.4 * LEVEL[238:462, 338:562] + 0.6 * 255
    assert np.abs(patch - expected).max() < 3  # alpha is applied in 8 bits


# --- refused ----------------------------------------------------------------------------------------------------------

WRONG = {
    **{
        f"Orientation {value}": (
            lambda path, value=value: write(path, extratags=[(274, "H", 1, value, True)]),
            rf"found Orientation {value} \({words}\), expected Orientation 1: turn the pixels \(vips autorot ",
        )
        for value, words in ((2, "mirrored left to right"), (3, "turned by 180 degrees"), (6, "turned by 90 degrees"))
    },
    "Orientation in JPEG tiles": (
        lambda path: write(path, compression="jpeg", extratags=[(274, "H", 1, 8, True)]),
        "found Orientation 8",
    ),
    "three grey pages": (
        lambda path: write_ome(path, np.moveaxis(LEVEL, 2, 0), photometric="minisblack", metadata={"axes": "CYX"}),
        "found 3 grey pages, one per channel, expected one picture of stained tissue in RGB, .*vips bandjoin ",
    ),
    "four grey pages": (
        lambda path: tifffile.imwrite(path, np.stack([GREY] * 4), **OPTIONS | {"photometric": "minisblack"}),
        "found 4 grey pages, one per channel, expected one picture of stained tissue in RGB, such as H&E$",
    ),
    "one grey channel": (lambda path: write(path, GREY, photometric="minisblack"), "found a single grey channel"),
    "DAPI in 16 bits": (
        lambda path: write(path, GREY.astype(np.uint16) * 9, photometric="minisblack"),
        "found a single grey channel, .*fluorescence or DAPI",
    ),
    "white is zero": (lambda path: write(path, GREY, photometric="miniswhite"), "found a single grey channel"),
    "bits": (
        lambda path: write(path, GREY > 99, photometric="minisblack", compression=None),
        "found samples that OpenSl",
    ),
    "float": (lambda path: write(path, LEVEL.astype(np.float32) / 255), "found samples .*, expected 8-bit RGB: scale"),
    "32 bits": (
        lambda path: write(path, LEVEL.astype(np.uint32)),
        "found samples that OpenSlide does not read .*8-bit",
    ),
    "signed": (lambda path: write(path, LEVEL.astype(np.int16)), "found samples of type int16, expected 8-bit RGB"),
    "a fourth channel": (
        lambda path: write(path, with_alpha(9, 0)[0], extrasamples=["unspecified"]),
        "found 4 channels, of which 1 of unknown meaning, expected RGB",
    ),
    "five channels": (
        lambda path: write(path, np.dstack([LEVEL, GREY, GREY]), extrasamples=[0, 0]),
        "found 5 channels, of which 2 of unknown meaning",
    ),
    "a label among the levels": (
        lambda path: write(path, LEVEL, halved(LEVEL), LEVEL[:300, :200]),
        "found a reduced page of 200 x 300 px in a slide of 900 x 700 px",
    ),
    **{
        f"compression {name}": (
            lambda path, name=name: write(path, compression=name),
            f"found compression {name.upper()}, which OpenSlide does not read in a TIFF, expected another: vips tiffsa",
        )
        for name in ("jpeg2000", "webp", "lzma")
    },
    "strips": (
        lambda path: write(path, tile=None),
        "found a TIFF in strips, without tiles, expected tiles: vips tiffsav",
    ),
    "a JPEG 2000 picture": (
        lambda path: Image.fromarray(LEVEL).save(path, "JPEG2000"),
        "found a JPEG 2000 picture, exp",
    ),
    "a BMP picture": (lambda path: Image.fromarray(LEVEL).save(path, "BMP"), "found a BMP picture"),
    "a compressed slide": (
        lambda path: path.write_bytes(gzip.compress(b"II*\0")),
        "found a gzip archive .*; unpack it",
    ),
    "a pointer of Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "found a Git LFS pointer, expected a whole-slide image; fetch its content with `git lfs pull`",
    ),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "found a web page"),
    "a dangling link": (lambda path: path.symlink_to("gone.tif"), r"found a link to gone\.tif, which does not exist"),
    "a folder": (Path.mkdir, "found a folder"),
    "a header alone": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "found a damaged TIFF"),
}


@pytest.mark.parametrize(("form", "found"), WRONG.values(), ids=WRONG)
def test_what_would_be_shown_wrong_is_refused_with_a_true_line(tmp_path, form, found):
    form(tmp_path / "slide.tif")
    with pytest.raises(InputError, match=rf"slide\.tif: slide: {found}") as error:
        extract_patches(tmp_path / "slide.tif", [[450, 350]], ["a"], 0.5, tmp_path / "patches.h5")
    assert "fetch it again" not in str(error.value)
    assert not (tmp_path / "patches.h5").exists()


def test_a_slide_that_may_not_be_read_is_not_called_an_unknown_format(tmp_path, monkeypatch):
    path = write(tmp_path / "slide.tif")

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"slide\.tif: slide: found no permission to read it"), slides.open_slide(path):
        pass


# --- what it looks like at the spots ----------------------------------------------------------------------------------

CENTRES = np.array([[x, y] for y in range(100, 700, 100) for x in range(100, 900, 100)])


@pytest.mark.parametrize(
    ("level", "found"),
    [
        (np.zeros_like(LEVEL), r"nothing but the colour \(0, 0, 0\) at 32 spots, expected stained tissue"),
        (np.full_like(LEVEL, 255), r"nothing but the colour \(255, 255, 255\) at 32 spots"),
        (LEVEL // 16, r"a dark picture \(brightness \d+ of 255 at 32 spots\), expected a brightfield picture"),
        (LEVEL.astype(np.uint16) * 16, "a dark picture .*scale samples of 10 to 15 bits that are stored in 16"),
        (LEVEL.astype(np.uint16) * 64, "a dark picture"),
        (np.where(LEVEL > 200, LEVEL, 0) * np.array([0, 0, 1], np.uint8), "a dark picture .*fluorescence cannot stand"),
    ],
    ids=["black", "white", "dim by 16", "12 bits in 16", "14 bits in 16", "nuclei on black"],
)
def test_a_picture_without_stained_tissue_is_refused(tmp_path, level, found):
    write(tmp_path / "slide.tif", level)
    with pytest.raises(InputError, match=rf"slide\.tif: slide: found {found}"):
        check_slide(tmp_path / "slide.tif", CENTRES, 0.5)


def stained(background):
    """Pink tissue with dark nuclei on the left, glass of one colour on the right."""
    noise = np.random.default_rng(0).integers(-15, 16, LEVEL.shape)
    level = np.clip(np.array([205, 150, 190]) + noise, 0, 255)
    level[::9, ::7] = [90, 60, 130]
    level[:, 450:] = background
    return level.astype(np.uint8)


@pytest.mark.parametrize("background", [(255, 255, 255), (128, 128, 128), (230, 228, 232), (0, 0, 0)])
def test_stained_tissue_on_any_background_passes(tmp_path, background):
    write_slide(tmp_path / "slide.tif", [stained(background)])
    assert check_slide(tmp_path / "slide.tif", CENTRES, 0.5) == ({"n_spots_without_patch": 0}, [])


@pytest.mark.parametrize(
    ("level", "warning"),
    [
        (stained((255, 255, 255)) // 3, "the slide is dim (brightness 8"),
        (
            np.repeat(stained((255, 255, 255))[..., :1], 3, axis=2),
            "the slide has no colours around the spots: is it stained?",
        ),
    ],
)
def test_a_dim_or_grey_slide_is_a_warning(tmp_path, level, warning):
    write_slide(tmp_path / "slide.tif", [level])
    _, (found,) = check_slide(tmp_path / "slide.tif", CENTRES, 0.5)
    assert found.startswith(warning)


def test_spots_on_lost_tiles_are_counted(tmp_path):
    """An interrupted copy or a sparse writer leaves tiles of length zero, which OpenSlide shows as empty."""
    path = write(tmp_path / "slide.tif", stained((255, 255, 255)))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        lengths = tiff.pages.first.tags["TileByteCounts"]
        kept = list(lengths.value)
        kept[0] = kept[1] = 0  # x below 256 and y below 128
        lengths.overwrite(kept)
    centres = np.array([[200, 100], [255, 127], [300, 100], [200, 200], [1000, 100], [-20, -5]])
    _, warnings = check_slide(path, centres, 0.5)
    assert "2 of 6 spots lie on tiles that the slide lacks: was it copied whole?" in warnings
