"""Pictures become slides with the same pixels and the size that they state, or are refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageOps

from drawnslides import texture, write_slide
from spotwise.data.slide_conversion import convert_slide
from spotwise.data.slide_format import needs_conversion
from spotwise.data.slides import open_slide
from spotwise.data.unsequenced_slides import slide_facts
from spotwise.errors import InputError

LEVEL = texture(480, 640)
GREY = LEVEL[..., 0]
ALPHA = np.dstack([LEVEL, np.full_like(GREY, 102)])
CMYK = np.dstack([255 - LEVEL, np.zeros_like(GREY)])


def plain_tiff(path, level=LEVEL, **options):
    tifffile.imwrite(path, level, **{"photometric": "rgb", "metadata": None} | options)
    return path


def ome(path, level=LEVEL, size=0.25, unit="µm", channels=None, **options):
    metadata = {"axes": "YXS" if level.shape[-1] == 3 else "CYX"}
    if size:
        metadata |= {"PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    if channels:
        metadata["Channel"] = {"Name": channels}
    tifffile.imwrite(path, level, ome=True, metadata=metadata, **options)
    return path


def picture(path, image=None, **options):
    (image or Image.fromarray(LEVEL)).save(path, **options)
    return path


def pixels(slide):
    with open_slide(slide) as opened:
        return np.asarray(opened.read_region((0, 0), 0, opened.dimensions).convert("RGB")).astype(int)


def converted(source, um_per_px=0.5):
    output = source.with_name("converted.tif")
    warnings = convert_slide(source, output, um_per_px)
    return output, warnings


# --- whether ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name", "needed"),
    [
        (plain_tiff, "a.tif", True),
        (ome, "a.ome.tif", True),
        (picture, "a.png", True),
        (picture, "a.jpg", True),
        (lambda path: write_slide(path, [LEVEL]), "a.tif", False),
        (picture, "a.bmp", False),
        (lambda path: path.write_text("x,y"), "a.csv", False),
        (lambda path: path.write_bytes(b""), "a.svs", False),
    ],
    ids=["plain TIFF", "OME-TIFF", "PNG", "JPEG", "tiled TIFF", "BMP", "table", "empty"],
)
def test_only_pictures_that_openslide_does_not_read_are_converted(tmp_path, make, name, needed):
    make(tmp_path / name)
    assert needs_conversion(tmp_path / name) is needed


def test_a_missing_slide_is_named_before_the_run(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: slide: found no such file, expected a whole-slide image"):
        needs_conversion(tmp_path / "gone.png")


def test_planning_does_not_load_the_library_that_converts():
    program = "import sys, spotwise.data.slide_format; print({'pyvips', 'pandas', 'skimage'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --- pixels -----------------------------------------------------------------------------------------------------------

EXACT = {
    "plain TIFF": lambda folder: plain_tiff(folder / "a.tif"),
    "LZW in strips": lambda folder: plain_tiff(folder / "a.tif", compression="lzw", predictor=True, rowsperstrip=7),
    "planar": lambda folder: plain_tiff(
        folder / "a.tif", np.ascontiguousarray(np.moveaxis(LEVEL, 2, 0)), planarconfig="separate"
    ),
    "big-endian": lambda folder: plain_tiff(folder / "a.tif", byteorder=">"),
    "BigTIFF": lambda folder: plain_tiff(folder / "a.tif", bigtiff=True),
    "16 bits": lambda folder: plain_tiff(folder / "a.tif", LEVEL.astype(np.uint16) * 257),
    "opaque": lambda folder: plain_tiff(folder / "a.tif", np.dstack([LEVEL, GREY * 0 + 255]), extrasamples=[2]),
    "OME-TIFF": lambda folder: ome(folder / "a.ome.tif", size=0.5),
    "planar OME-TIFF": lambda folder: ome(
        folder / "a.ome.tif", np.moveaxis(LEVEL, 2, 0), 0.5, channels=["Red", "Green", "Blue"], photometric="minisblack"
    ),
    "PNG": lambda folder: picture(folder / "a.png"),
    "PNG in 16 bits": lambda folder: _png16(folder / "a.png"),
    "opaque PNG": lambda folder: picture(folder / "a.png", Image.fromarray(np.dstack([LEVEL, GREY * 0 + 255]))),
}


def _png16(path):
    import pyvips

    pyvips.Image.new_from_array(LEVEL.astype(np.uint16) * 257, interpretation="rgb16").pngsave(str(path))
    return path


@pytest.mark.parametrize("form", EXACT.values(), ids=EXACT)
def test_a_converted_picture_has_the_same_pixels(tmp_path, form):
    source = form(tmp_path)
    assert needs_conversion(source)
    slide, warnings = converted(source)
    np.testing.assert_array_equal(pixels(slide), LEVEL)
    reduced = ["16 bits of each colour are reduced to the upper 8"]
    assert warnings == (reduced if form in (EXACT["16 bits"], EXACT["PNG in 16 bits"]) else [])


def test_a_jpeg_has_the_pixels_that_other_readers_see(tmp_path):
    source = picture(tmp_path / "a.jpg", quality=95)
    slide, _ = converted(source)
    assert np.abs(pixels(slide) - np.asarray(Image.open(source), int)).max() <= 3  # two decoders of JPEG


def test_a_palette_is_looked_up(tmp_path):
    palette = Image.fromarray(LEVEL).quantize(64)
    slide, _ = converted(picture(tmp_path / "a.png", palette))
    np.testing.assert_array_equal(pixels(slide), np.asarray(palette.convert("RGB")))


def test_transparency_is_shown_on_white(tmp_path):
    slide, _ = converted(picture(tmp_path / "a.png", Image.fromarray(ALPHA)))
    assert np.abs(pixels(slide) - (0.4 * LEVEL + 0.6 * 255)).max() <= 1


def test_cmyk_keeps_its_colours(tmp_path):
    """A profile of inks is looked up, so that only the order of colours is kept exactly."""
    slide, warnings = converted(picture(tmp_path / "a.tif", Image.fromarray(CMYK, mode="CMYK")))
    assert warnings == ["CMYK is turned into RGB by a standard profile"]
    found = pixels(slide).reshape(-1, 3)
    for channel in range(3):
        assert np.corrcoef(found[:, channel], LEVEL[..., channel].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_tag_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    source = picture(tmp_path / "a.png", exif=exif)
    slide, warnings = converted(source)
    with Image.open(source) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(pixels(slide), upright)
    said = [] if orientation == 1 else [f"a.png is turned as its tag Orientation ({orientation}) says"]
    assert warnings == said
    assert slide_facts(slide, "a.png")["warnings"] == said


def test_the_largest_page_is_the_slide(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for level in (LEVEL[:50, :60], LEVEL, LEVEL[:100, :120]):
            tiff.write(level, photometric="rgb", metadata=None)
    slide, _ = converted(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(slide), LEVEL)


def test_an_ome_tiff_with_its_own_pyramid_is_converted_from_its_full_size(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        tiff.write(LEVEL, photometric="rgb", subifds=1, metadata={"axes": "YXS", "PhysicalSizeX": 0.5})
        tiff.write(LEVEL[::2, ::2], photometric="rgb", subfiletype=1)
    slide, _ = converted(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(pixels(slide), LEVEL)


def test_the_pyramid_reaches_down_to_one_tile_and_is_the_mean_of_its_pixels(tmp_path):
    level = texture(1200, 1600)
    slide, _ = converted(picture(tmp_path / "a.png", Image.fromarray(level)))
    with openslide.OpenSlide(slide) as opened:
        assert opened.level_dimensions == ((1600, 1200), (800, 600), (400, 300), (200, 150))
        half = np.asarray(opened.read_region((0, 0), 1, (800, 600)).convert("RGB")).astype(float)
    assert np.abs(half - level.reshape(600, 2, 800, 2, 3).mean(axis=(1, 3))).max() <= 1


# --- size of a pixel --------------------------------------------------------------------------------------------------

SIZES = {
    "OME-XML": lambda folder: ome(folder / "a.ome.tif", size=0.25),
    "OME-XML in nm": lambda folder: ome(folder / "a.ome.tif", size=250, unit="nm"),
    "TIFF per cm": lambda folder: plain_tiff(folder / "a.tif", resolution=(40_000, 40_000), resolutionunit=3),
    "TIFF per inch": lambda folder: plain_tiff(folder / "a.tif", resolution=(101_600, 101_600), resolutionunit=2),
    "ImageJ": lambda folder: _imagej(folder / "a.tif"),
}


def _imagej(path):
    tifffile.imwrite(path, LEVEL, imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "YXS"})
    return path


@pytest.mark.parametrize("form", SIZES.values(), ids=SIZES)
def test_the_stated_size_of_a_pixel_is_kept(tmp_path, form):
    slide, _ = converted(form(tmp_path), None)
    facts = slide_facts(slide, "a.tif")
    assert facts["um_per_px"] == pytest.approx(0.25, rel=1e-4)
    assert facts["warnings"] == []


def test_the_users_size_comes_before_the_pictures(tmp_path):
    slide, warnings = converted(ome(tmp_path / "a.ome.tif", size=0.5), 0.25)
    facts = slide_facts(slide, "a.tif", 0.25)
    assert (facts["um_per_px"], facts["um_per_px_from"]) == (0.25, "user")
    assert facts["warnings"] == warnings == ["um_per_px 0.25 is used, the file says 0.5"]


NO_SIZE = {
    "none": lambda folder: picture(folder / "a.png"),
    "72 dpi": lambda folder: picture(folder / "a.jpg", dpi=(72, 72)),
    "96 dpi": lambda folder: plain_tiff(folder / "a.tif", resolution=(96, 96), resolutionunit=2),
    "no unit": lambda folder: plain_tiff(folder / "a.tif", resolution=(4, 4), resolutionunit=1),
    "zero": lambda folder: plain_tiff(folder / "a.tif", resolution=((0, 1), (0, 1)), resolutionunit=2),
    "1 um": lambda folder: ome(folder / "a.ome.tif", size=1.0),
    "pixels": lambda folder: ome(folder / "a.ome.tif", size=1.0, unit="pixel"),
}


@pytest.mark.parametrize("form", NO_SIZE.values(), ids=NO_SIZE)
def test_a_picture_without_a_size_is_refused_before_the_work(tmp_path, form):
    with pytest.raises(
        InputError, match=r"a\.\S+: pixel size: found none in the file, .* column um_per_px of the slid"
    ):
        converted(form(tmp_path), None)
    assert not (tmp_path / "converted.tif").exists()


# --- refused ----------------------------------------------------------------------------------------------------------


def _cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _text(path):
    path.write_text("x,y")
    return path


WRONG = {
    "grey PNG": (lambda folder: picture(folder / "a.png", Image.fromarray(GREY)), "a single grey channel"),
    "grey JPEG": (lambda folder: picture(folder / "a.jpg", Image.fromarray(GREY)), "a single grey channel"),
    "grey and alpha": (
        lambda folder: picture(folder / "a.png", Image.fromarray(np.dstack([GREY, GREY]), mode="LA")),
        "a single grey channel",
    ),
    "black and white": (lambda folder: picture(folder / "a.png", Image.fromarray(GREY > 99)), "a single grey channel"),
    "DAPI": (
        lambda folder: plain_tiff(folder / "a.tif", GREY.astype(np.uint16), photometric="minisblack"),
        "a single grey channel",
    ),
    "three channels of fluorescence": (
        lambda folder: ome(
            folder / "a.ome.tif", np.moveaxis(LEVEL, 2, 0), channels=["DAPI", "CD3", "CK"], photometric="minisblack"
        ),
        "3 grey pages, one per channel",
    ),
    "float": (lambda folder: plain_tiff(folder / "a.tif", LEVEL.astype(np.float32)), "samples of type float32"),
    "signed": (lambda folder: plain_tiff(folder / "a.tif", LEVEL.astype(np.int16)), "samples of type int16"),
    "a fourth channel": (
        lambda folder: plain_tiff(folder / "a.tif", ALPHA, extrasamples=[0]),
        "4 channels, of which 1 of unknown meaning",
    ),
    "a table": (lambda folder: _text(folder / "a.csv"), "a format OpenSlide does not know"),
    "cut PNG": (lambda folder: _cut(picture(folder / "a.png")), r"unreadable data \(.*\), expected a complete picture"),
    "cut JPEG": (lambda folder: _cut(picture(folder / "a.jpg")), "unreadable data"),
    "cut TIFF": (lambda folder: _cut(plain_tiff(folder / "a.tif")), "(unreadable data|a damaged TIFF)"),
    "header of a TIFF": (lambda folder: _cut(plain_tiff(folder / "a.tif"), 1e-5), "a damaged TIFF"),
}


@pytest.mark.parametrize(("form", "found"), WRONG.values(), ids=WRONG)
def test_a_picture_that_cannot_be_a_slide_is_refused_in_one_line(tmp_path, form, found):
    with pytest.raises(InputError, match=rf"a\.\S+: slide: found {found}") as error:
        converted(form(tmp_path))
    assert "\n" not in str(error.value)
    assert [path.name[0] for path in tmp_path.iterdir()] == ["a"]  # nothing half-written


def test_pixels_that_are_not_square_are_refused(tmp_path):
    source = plain_tiff(tmp_path / "a.tif", resolution=(40_000, 20_000), resolutionunit=3)
    with pytest.raises(InputError, match=r"pixel size: found 0\.25 by 0\.5 um/px, expected square pixels"):
        converted(source, None)


def test_a_size_too_coarse_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"a\.tif: pixel size: found 4 um/px, which is too coarse"):
        converted(plain_tiff(tmp_path / "a.tif", resolution=(2500, 2500), resolutionunit=3), None)
