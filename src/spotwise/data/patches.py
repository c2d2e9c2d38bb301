"""Square patches around the spots: cut from a slide, or read from HEST's patch files (``patches/{sample}.h5``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import openslide
from PIL import Image

from spotwise.constants import BARCODES, COORDS, IMAGES, PATCH_PX
from spotwise.data.slides import on_white, open_slide
from spotwise.data.tiles import TILE_CACHE_BYTES, TiffTiles
from spotwise.errors import InputError, first_line
from spotwise.runtime import hdf5

# Reads from a corner (x, y) in level-0 pixels a square of n pixels of the level that is read: RGB (n, n, 3)
Region = Callable[[tuple[int, int], int], np.ndarray]

logger = logging.getLogger(__name__)

PATCH_UM_PER_PX = 0.5  # 224 px cover 112 um
# HEST's filter on its Pillow path. Its usual path (cv2, bilinear) aliases, and its pixels therefore differ slightly.
RESAMPLING = Image.Resampling.BICUBIC
_KERNEL_RADIUS = 2  # of the bicubic kernel, in pixels of the coarser of source and target

# Pyramids halve odd sizes and so report downsamples like 2.0001; such a level still serves a downsample of 2
_LEVEL_TOLERANCE = 1.005
# Each thread cuts runs of adjacent patches, which share tiles; many runs, so that no thread idles at the end
_PATCHES_PER_RUN = 64
_RUNS_PER_THREAD = 8

_OFFSET_TOLERANCE_PX = 2  # of a patch from its spot: HEST rounds twice


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
    source_px = round(PATCH_PX * downsample)
    corners = np.floor(np.asarray(centres, dtype=float) - source_px / 2 + 0.5).astype(np.int64)
    with open_slide(slide) as opened:
        inside = ((corners + source_px > 0) & (corners < opened.dimensions)).all(axis=1)
        if not inside.any():
            found = f"all {len(inside)} patches outside {opened.dimensions} px"
            raise InputError(slide, "spot centres", found, "pixels of level 0")
        dropped = barcodes[~inside].tolist()
        if dropped:
            logger.warning("%s: %d patches lie wholly outside the slide: %s", slide, len(dropped), ", ".join(dropped))
        corners = corners[inside]
        level = opened.get_best_level_for_downsample(downsample * _LEVEL_TOLERANCE)
        level_downsample = opened.level_downsamples[level]
        opened.set_cache(openslide.OpenSlideCache(TILE_CACHE_BYTES))
        squares = _squares(corners, source_px, level_downsample)

        with _regions(slide, opened, level, squares) as region, hdf5.create(output) as file:
            images = _create_datasets(file, corners, barcodes[inside])
            attrs = {"patch_size_src": source_px, "patch_size_target": PATCH_PX, "downsample": downsample}
            for dataset in (images, file[COORDS]):
                dataset.attrs.update(attrs, pixel_size=um_per_px)

            def cut(rows: np.ndarray) -> None:
                for row in rows:
                    images.id.write_direct_chunk((row, 0, 0, 0), _read_patch(region, squares[row]))

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(cut, _runs(corners, source_px, threads)))
    cut_from = {"level": level, "level_downsample": level_downsample, "pixel_size": um_per_px}
    return {"n_patches": len(corners), "dropped_outside_slide": dropped, **attrs, **cut_from}


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


def read_patches_index(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, object]]:
    """Check a patch file of HEST's layout and return its index.

    The file has ``img`` uint8 (N, height, width, 3) and ``barcode`` (N,) or (N, 1), bytes or str. Older files of HEST
    (before August 2024) have 256 px images and neither ``coords`` nor attributes; they are accepted.

    Returns
    -------
    barcodes
        (N,) unique barcodes as str, in the order of the images.
    coords
        (N, 2) int64 top-left corners in level-0 pixels, or None.
    attrs
        Attributes of ``img``, e.g. ``patch_size_src`` and ``pixel_size``.

    Raises
    ------
    InputError
        The file is unreadable or half-written, or its datasets do not match the schema or each other.
    """
    try:
        with h5py.File(path, "r") as file:
            barcodes = _read_barcodes(path, file)
            _check_images(path, file, len(barcodes))
            coords = _read_coords(path, file, len(barcodes)) if COORDS in file else None
            return barcodes, coords, dict(file[IMAGES].attrs)
    except (OSError, RuntimeError) as error:  # h5py raises either for a damaged file
        expected = "an HDF5 file of patches; make or fetch it again"
        raise InputError(path, "file", f"unreadable ({first_line(error)})", expected) from error


def _dataset(path: Path, file: h5py.File, name: str, expected: str) -> h5py.Dataset:
    if not isinstance(file.get(name), h5py.Dataset):
        raise InputError(path, name, "no such dataset", expected)
    return file[name]


def _read_barcodes(path: Path, file: h5py.File) -> np.ndarray:
    stored = _dataset(path, file, BARCODES, "one label per patch")
    if stored.ndim > 2 or stored.ndim == 0 or stored.size != len(stored) or len(stored) == 0:
        raise InputError(path, BARCODES, f"shape {stored.shape}", "(N,) or (N, 1) with N > 0")
    if stored.dtype.kind not in "SO":
        raise InputError(path, BARCODES, f"dtype {stored.dtype}", "strings")
    try:
        barcodes = np.array([label.decode("utf-8") for label in stored[()].ravel()])
    except (UnicodeDecodeError, AttributeError) as error:
        raise InputError(path, BARCODES, "barcodes that are not UTF-8", "UTF-8 strings") from error
    labels, counts = np.unique(barcodes, return_counts=True)
    if len(labels) < len(barcodes):
        raise InputError(path, BARCODES, f"{labels[counts.argmax()]} {counts.max()} times", "unique labels")
    return barcodes


def _check_images(path: Path, file: h5py.File, n_patches: int) -> None:
    images = _dataset(path, file, IMAGES, "uint8 (N, height, width, 3)")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(path, IMAGES, f"{images.dtype} {images.shape}", "uint8 (N, height, width, 3)")
    if len(images) != n_patches:
        raise InputError(path, IMAGES, f"{len(images)} patches", f"{n_patches}, one for each barcode")
    expected = "a file whose writer was not cut off"
    if images.chunks:
        n_chunks = math.prod(-(-edge // chunk) for edge, chunk in zip(images.shape, images.chunks, strict=True))
        if (n_written := images.id.get_num_chunks()) < n_chunks:  # HDF5 would give black pixels for the others
            found = f"{n_written} of {n_chunks} chunks, the others were never written"
            raise InputError(path, IMAGES, found, expected)
    try:
        _ = images[0], images[-1]
    except OSError as error:
        raise InputError(path, IMAGES, f"unreadable patches ({first_line(error)})", expected) from error


def _read_coords(path: Path, file: h5py.File, n_patches: int) -> np.ndarray:
    coords = _dataset(path, file, COORDS, f"integers ({n_patches}, 2)")
    if coords.shape != (n_patches, 2) or coords.dtype.kind not in "iu":
        raise InputError(path, COORDS, f"{coords.dtype} {coords.shape}", f"integers ({n_patches}, 2)")
    return coords[()].astype(np.int64)


def check_centres(
    coords: np.ndarray, attrs: Mapping[str, object], centres: np.ndarray, barcodes: Sequence[str], source: object
) -> None:
    """Raise an `InputError` unless each patch contains the centre of its spot.

    Parameters
    ----------
    coords, attrs
        As :func:`read_patches_index` returns them, for N patches; nothing is checked without ``patch_size_src``.
    centres, barcodes
        (N, 2) spot centres in level-0 pixels and their N barcodes, in the order of the patches.
    source
        Patch file, for messages.
    """
    size = attrs.get("patch_size_src")
    if not np.isscalar(size) or not np.issubdtype(type(size), np.number):
        return
    offset = np.abs(coords + size / 2 - centres).max(axis=1)
    wrong = np.flatnonzero(~(offset <= size / 2))
    if len(wrong):
        row = wrong[0]
        found = f"{len(wrong)} of {len(offset)} patches off their spots, first {barcodes[row]} by {offset[row]:.0f} px"
        raise InputError(source, COORDS, found, f"patches of {size} px around the spots in the counts' obsm")
    if len(offset) and (median := float(np.median(offset))) > _OFFSET_TOLERANCE_PX:
        logger.warning("%s: patches lie %.0f px from their spots in the median", source, median)


def match_patches(patch_barcodes: Sequence[str], obs_names: Sequence[str], source: object) -> np.ndarray:
    """Find each spot's patch by its barcode, -1 if it has none.

    Raises
    ------
    InputError
        A patch belongs to no spot: the files come from different samples, or write barcodes differently.
    """
    row_of = {str(barcode): row for row, barcode in enumerate(patch_barcodes)}
    unknown = row_of.keys() - {str(name) for name in obs_names}
    if unknown:
        found = f"{len(unknown)} barcodes of no spot, e.g. {min(unknown)}"
        raise InputError(source, BARCODES, found, "barcodes of the counts")
    return np.array([row_of.get(str(name), -1) for name in obs_names], dtype=np.int64)
