"""Square patches around the spots, cut from a slide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import openslide
from PIL import Image

from spotwise.constants import BARCODES, COORDS, IMAGES, PATCH_PX, PATCH_UM
from spotwise.data.slide_format import n_missing_tiles
from spotwise.data.slides import colour_warnings, on_white, open_slide
from spotwise.data.tiles import TILE_CACHE_BYTES, TiffTiles
from spotwise.errors import InputError
from spotwise.runtime import hdf5
from spotwise.runtime.software import SLIDE_READERS, versions

# Reads from a corner (x, y) in level-0 pixels a square of n pixels of the level that is read: RGB (n, n, 3)
Region = Callable[[tuple[int, int], int], np.ndarray]

PATCH_UM_PER_PX = PATCH_UM / PATCH_PX
# HEST's filter on its Pillow path. Its usual path (cv2, bilinear) aliases, and its pixels therefore differ slightly.
RESAMPLING = Image.Resampling.BICUBIC
_KERNEL_RADIUS = 2  # of the bicubic kernel, in pixels of the coarser of source and target

# Pyramids halve odd sizes and so report downsamples like 2.0001; such a level still serves a downsample of 2
_LEVEL_TOLERANCE = 1.005
# Each thread cuts runs of adjacent patches, which share tiles; many runs, so that no thread idles at the end
_PATCHES_PER_RUN = 64
_RUNS_PER_THREAD = 8


def extract_patches(
    slide: Path,
    centres: np.ndarray,
    barcodes: Sequence[str],
    um_per_px: float,
    output: Path,
    threads: int = 1,
) -> dict[str, object]:
    """Cut a square patch around every spot and write HEST's patch schema.

    A patch of `PATCH_PX` pixels of `PATCH_UM_PER_PX` covers a whole number of level-0 pixels from an integer corner, so
    its centre lies within half a pixel of the spot's. It is read from the coarsest level that still resolves the target
    and resized with an antialiased bicubic filter. Beyond the slide it is white, the colour of empty glass; HEST pads
    with black.

    Parameters
    ----------
    slide
        Slide that OpenSlide reads.
    centres, barcodes
        (N, 2) spot centres (x, y) in level-0 pixels, and N unique barcodes in the order of the file.
    um_per_px
        Pixel size of level 0 in micrometres.
    output
        HDF5 file to write, atomically.
    threads
        Number of threads that read and resize; the patches do not depend on it.

    Returns
    -------
    dict
        For the log: how the patches were read, and the barcodes of those that lie wholly outside the slide.

    Raises
    ------
    InputError
        The slide cannot be read, or no patch touches it.
    """
    barcodes = np.asarray(barcodes, dtype=str)
    downsample = PATCH_UM_PER_PX / um_per_px
    corners, source_px = patch_corners(centres, um_per_px)
    with open_slide(slide) as opened:
        inside = _touching(slide, opened, corners, source_px)
        corners = corners[inside]
        level = opened.get_best_level_for_downsample(downsample * _LEVEL_TOLERANCE)
        level_downsample = opened.level_downsamples[level]
        opened.set_cache(openslide.OpenSlideCache(TILE_CACHE_BYTES))
        squares = _squares(corners, source_px, level_downsample)

        with _regions(slide, opened, level, squares) as region, hdf5.create(output) as file:
            images = _create_datasets(file, corners, barcodes[inside])
            images.attrs["readers"] = readers()
            attrs = {"patch_size_src": source_px, "patch_size_target": PATCH_PX, "downsample": downsample}
            for dataset in (images, file[COORDS]):
                dataset.attrs.update(attrs, pixel_size=um_per_px)

            def cut(rows: np.ndarray) -> None:
                for row in rows:
                    images.id.write_direct_chunk((row, 0, 0, 0), _read_patch(region, squares[row]))

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(cut, _runs(corners, source_px, threads)))
    cut_from = {"level": level, "level_downsample": level_downsample, "pixel_size": um_per_px}
    return {"n_patches": len(corners), "dropped_outside_slide": barcodes[~inside].tolist(), **attrs, **cut_from}


@contextmanager
def field_reader(
    slide: Path, centres: np.ndarray, um_per_px: float, field_um: float
) -> Iterator[Callable[[Sequence[int]], np.ndarray]]:
    """Open a slide to read squares of any size around spots, as `extract_patches` reads patches.

    Parameters
    ----------
    slide, centres, um_per_px
        As in `extract_patches`.
    field_um
        Side of a square in micrometres.

    Yields
    ------
    callable
        Rows of ``centres``, each read once, to RGB (n, PATCH_PX, PATCH_PX, 3) uint8, white beyond the slide.

    Raises
    ------
    InputError
        The slide cannot be read.
    """
    corners, source_px = patch_corners(centres, um_per_px, field_um)
    with open_slide(slide) as opened:
        level = opened.get_best_level_for_downsample(source_px / PATCH_PX * _LEVEL_TOLERANCE)
        opened.set_cache(openslide.OpenSlideCache(TILE_CACHE_BYTES))
        squares = _squares(corners, source_px, opened.level_downsamples[level])
        with _regions(slide, opened, level, squares) as region:
            yield lambda rows: np.stack([_read_patch(region, squares[row]) for row in rows])


def patch_corners(centres: np.ndarray, um_per_px: float, field_um: float = PATCH_UM) -> tuple[np.ndarray, int]:
    """Return corners (N, 2) int64 and side of squares of ``field_um`` around spot centres, in level-0 pixels."""
    source_px = round(field_um / um_per_px)
    return np.floor(np.asarray(centres, dtype=float) - source_px / 2 + 0.5).astype(np.int64), source_px


def _touching(slide: Path, opened: openslide.OpenSlide, corners: np.ndarray, source_px: int) -> np.ndarray:
    inside = ((corners + source_px > 0) & (corners < opened.dimensions)).all(axis=1)
    if not inside.any():
        found = f"all {len(inside)} patches outside {opened.dimensions} px"
        raise InputError(slide, "spot centres", found, "pixels of level 0")
    return inside


def readers() -> str:
    """Name the software that the pixels of a patch depend on, with versions."""
    named = {"OpenSlide": openslide.__library_version__, **versions(*SLIDE_READERS)}
    return ", ".join(f"{name} {version}" for name, version in named.items())


def check_slide(slide: Path, centres: np.ndarray, um_per_px: float) -> tuple[dict[str, int], list[str]]:
    """Check how a slide looks at its spots, and return numbers and warnings for ``qc.json``.

    Raises
    ------
    InputError
        The slide is unreadable, dark or empty at all spots, or no patch touches it.
    """
    warnings = colour_warnings(slide, centres)
    with open_slide(slide) as opened:
        outside = int((~_touching(slide, opened, *patch_corners(centres, um_per_px))).sum())
        missing = n_missing_tiles(slide, opened, np.asarray(centres))
    if missing:
        warnings.append(f"{missing} of {len(centres)} spots lie on tiles that the slide lacks: was it copied whole?")
    if outside:
        warnings.append(
            f"{outside} of {len(centres)} spots are left out, as their patches lie wholly outside the slide"
        )
    return {"n_spots_without_patch": outside}, warnings


def _create_datasets(file: h5py.File, corners: np.ndarray, barcodes: np.ndarray) -> h5py.Dataset:
    file.create_dataset(COORDS, data=corners, chunks=(1, 2), maxshape=(None, 2))
    labels = barcodes.astype(object)[:, None]
    file.create_dataset(BARCODES, data=labels, dtype=h5py.string_dtype("utf-8"), chunks=(1, 1), maxshape=(None, 1))
    shape = (PATCH_PX, PATCH_PX, 3)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # in the order of the spots, whatever the order of writing
    return file.create_dataset(
        IMAGES,
        (len(corners), *shape),
        np.uint8,
        chunks=(1, *shape),
        maxshape=(None, *shape),
        dcpl=layout,
        fill_time="never",
    )


def _runs(corners: np.ndarray, source_px: int, threads: int) -> list[np.ndarray]:
    """Divide rows of ``corners`` into runs along bands of a patch's height."""
    order = np.lexsort((corners[:, 0], corners[:, 1] // source_px))
    n_runs = max(math.ceil(len(order) / _PATCHES_PER_RUN), _RUNS_PER_THREAD * threads)
    return np.array_split(order, n_runs)


class _Square(NamedTuple):
    """Square that is read around a patch."""

    location: tuple[int, int]  # (x, y) in level-0 pixels
    n_px: int  # edge in pixels of the level that is read
    box: tuple[float, float, float, float] | None  # of the patch in the square; None if the square is the patch


def _squares(corners: np.ndarray, source_px: int, downsample: float) -> list[_Square]:
    """Compute the square to read for each patch from its corner."""
    starts, size = corners / downsample, source_px / downsample
    # the kernel reaches beyond the patch; without this rim its edge pixels would be filtered differently
    rim = math.ceil(_KERNEL_RADIUS * max(1.0, size / PATCH_PX))
    firsts = np.floor(starts).astype(int) - rim
    n_px = math.ceil(size) + 2 * rim + 1
    locations = np.round(firsts * downsample).astype(int)
    offsets = starts - locations / downsample
    unscaled = (starts == np.floor(starts)).all(axis=1) & (size == PATCH_PX)
    return [
        _Square((x, y), PATCH_PX, None)
        if as_stored
        else _Square((near_x, near_y), n_px, (left, top, left + size, top + size))
        for as_stored, (x, y), (near_x, near_y), (left, top) in zip(
            unscaled.tolist(), corners.tolist(), locations.tolist(), offsets.tolist(), strict=True
        )
    ]


def _read_patch(region: Region, square: _Square) -> np.ndarray:
    """Read the patch in a square as (PATCH_PX, PATCH_PX, 3) uint8."""
    pixels = region(square.location, square.n_px)
    if square.box is None:
        return pixels
    image = Image.new("RGB", (square.n_px, square.n_px), None)  # fromarray would fill it first
    image.frombytes(pixels)
    return np.asarray(image.resize((PATCH_PX, PATCH_PX), RESAMPLING, square.box))


@contextmanager
def _regions(path: Path, slide: openslide.OpenSlide, level: int, squares: Sequence[_Square]) -> Iterator[Region]:
    """Yield a reader of a level, from its tiles where pixels are the same."""
    tiles = TiffTiles.of_level(path, slide, level)
    if tiles is None:
        yield lambda location, n_px: np.asarray(on_white(slide.read_region(location, level, (n_px, n_px))))
        return
    downsample = round(slide.level_downsamples[level])

    def on_level(location: tuple[int, int]) -> tuple[int, int]:
        return location[0] // downsample, location[1] // downsample

    tiles.expect((*on_level(square.location), square.n_px) for square in squares)
    with open(path, "rb") as file:
        yield lambda location, n_px: tiles.region(file.fileno(), *on_level(location), n_px)
