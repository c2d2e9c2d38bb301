"""Spot-centred patches from whole slides, and HEST's patch files (``patches/{sample}.h5``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import openslide
import scipy  # loads a subpackage when it is used
from PIL import Image

from spotwise.constants import BARCODES, COORDS, IMAGES
from spotwise.errors import InputError
from spotwise.runtime.files import atomic, syncing
from spotwise.data.tiles import TILE_CACHE_BYTES, TiffTiles

if TYPE_CHECKING:
    # of the pixels from a corner (x, y) of level 0, a square of so many pixels of the level that is read, RGB
    Region = Callable[[tuple[int, int], int], np.ndarray]

log = logging.getLogger(__name__)

# Bicubic is Pillow's default and the filter of HEST's Pillow path. Pillow widens the kernel when it shrinks, so nothing
# aliases; HEST's usual path (cv2, bilinear without widening) does alias, and its pixels therefore differ slightly.
RESAMPLING = Image.Resampling.BICUBIC
_KERNEL_RADIUS = 2  # of the bicubic kernel, in pixels of the coarser of source and target

# Pyramids halve odd sizes and so report downsamples like 2.0001; a level that misses the target by so little serves.
_LEVEL_SLACK = 1.005
# A thread cuts a run of patches: neighbours, as they share tiles; enough runs that no thread idles at the end.
_PATCHES_PER_RUN = 64
_RUNS_PER_THREAD = 8

# Embedded pixel sizes that only say "unknown": print resolutions (72 and 96 dpi), scanners' and converters' defaults.
PLACEHOLDER_UM_PER_PX = (1.0, 0.2125, 0.26458, 0.35278, 31.75, 63.5, 0.0006)
_PLAUSIBLE_UM_PER_PX = (0.05, 10.0)
_TOLERATED_DISAGREEMENT = 0.02
# of the slide's size from what its metadata says: more than a rim of padding
_TOLERATED_SIZE = 0.01
# of the distance between spots: rows of an array are compressed by up to a tenth where tissue was cut askew
_TOLERATED_DISTANCE = 0.2

# of a patch from its spot: HEST rounds twice
_TOLERATED_OFFSET_PX = 2

# Pixels read at once for a thumbnail (256 MB), and most of them in all: above, a slide without a pyramid takes hours
_STRIP_PX = 2**26
_MOST_PX = 10**10


@contextmanager
def open_slide(path: Path) -> Iterator[openslide.OpenSlide]:
    """Open a whole slide; a file that OpenSlide cannot read, now or later, is an `InputError` of one line.

    Parameters
    ----------
    path
        Slide in any format of OpenSlide, e.g. a tiled pyramidal TIFF.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, or no slide.
    """
    if not Path(path).is_file():
        raise InputError(path, "slide", "no such file", "a whole-slide image")
    if Path(path).stat().st_size == 0:
        raise InputError(path, "slide", "an empty file", "a whole-slide image")
    try:
        with openslide.OpenSlide(path) as slide:
            yield slide
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise InputError(
            path, "slide", "a format OpenSlide does not know", "a tiled, pyramidal TIFF or a scanner's own format"
        ) from error
    except openslide.OpenSlideError as error:
        raise InputError(path, "slide", f"unreadable data ({error})", "a complete slide; fetch it again") from error


def um_per_px(metadata: Mapping[str, object], slide: Path | None = None, source: object = None) -> float:
    """Pixel size of a slide's level 0 in micrometres, from the sample's metadata or else the slide's own tags.

    HEST's ``pixel_size_um_estimated`` (from the distance between spots) is trusted first, as slides often embed none or
    a placeholder. A warning tells when an embedded size disagrees by more than 2 %.

    Parameters
    ----------
    metadata
        HEST's metadata of the sample; ``pixel_size_um_estimated`` and ``pixel_size_um_embedded`` may be absent or null.
    slide
        Slide whose ``openslide.mpp-x`` and ``-y`` serve when nothing was estimated.
    source
        The metadata's file, for messages.

    Raises
    ------
    InputError
        If no source gives a size, or the size lies outside 0.05-10 um/px.
    """
    where = source or f"metadata of {metadata.get('id', 'the sample')}"
    estimated = _pixel_size(where, metadata, "pixel_size_um_estimated")
    if estimated is None:
        return _embedded_um_per_px(where, slide)
    _check_plausible(where, "pixel_size_um_estimated", estimated)
    embedded = _pixel_size(where, metadata, "pixel_size_um_embedded")
    if embedded is not None and not _is_placeholder(embedded):
        disagreement = abs(embedded / estimated - 1)
        if disagreement > _TOLERATED_DISAGREEMENT:
            log.warning(
                "%s: pixel_size_um_embedded %.4f differs by %.1f %% from pixel_size_um_estimated %.4f, which is used",
                where, embedded, 100 * disagreement, estimated,
            )  # fmt: skip
    return estimated


def _pixel_size(where: object, metadata: Mapping[str, object], key: str) -> float | None:
    value = metadata.get(key)
    try:
        size = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        size = None
    if size is None or isinstance(value, bool):
        raise InputError(where, key, repr(value), "a number of micrometres per pixel, or null")
    return None if math.isnan(size) else size  # a blank CSV cell reaches the JSON as NaN


def _embedded_um_per_px(where: object, slide: Path | None) -> float:
    if slide is None:
        raise InputError(where, "pixel_size_um_estimated", "none", "micrometres per pixel of the slide's level 0")
    with open_slide(slide) as opened:
        found = [opened.properties.get(key) for key in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)]
    if None in found:
        raise InputError(slide, "pixel size", "none, nor in the metadata", "pixel_size_um_estimated in the metadata")
    size = (float(found[0]) + float(found[1])) / 2
    _check_plausible(slide, "openslide.mpp", size)
    if not math.isclose(float(found[0]), float(found[1]), rel_tol=_TOLERATED_DISAGREEMENT):
        raise InputError(slide, "openslide.mpp", f"{found[0]} by {found[1]} um/px", "square pixels")
    if _is_placeholder(size):
        log.warning(
            "%s: pixel size %.5g um looks like a placeholder; give pixel_size_um_estimated instead", slide, size
        )
    return size


def _check_plausible(where: object, field: str, size: float) -> None:
    low, high = _PLAUSIBLE_UM_PER_PX
    if not low <= size <= high:
        raise InputError(where, field, f"{size:g} um/px", f"between {low} and {high} um/px")


def _is_placeholder(size: float) -> bool:
    return any(math.isclose(size, known, rel_tol=1e-3) for known in PLACEHOLDER_UM_PER_PX)


def check_slide_size(slide: Path, expected: tuple[int, int], source: object) -> None:
    """Check that a slide is as large as its metadata says, to 1 %: else the spots are pixels of another image.

    Parameters
    ----------
    slide
        Any slide that OpenSlide reads.
    expected
        (width, height) in pixels of level 0.
    source
        The metadata's file, for messages.

    Raises
    ------
    InputError
        If the slide cannot be read or has another size.
    """
    with open_slide(slide) as opened:
        size = opened.dimensions
    if any(abs(found - said) > _TOLERATED_SIZE * said for found, said in zip(size, expected, strict=True)):
        raise InputError(
            slide, "size", f"{size[0]} x {size[1]} px", f"{expected[0]} x {expected[1]} px, as {source} says"
        )


def scale_warning(centres: np.ndarray, um_per_px: float, metadata: Mapping[str, object]) -> str | None:
    """What is odd about the scale of a slide: spots not as far apart as the metadata says; ``None`` if nothing.

    Parameters
    ----------
    centres
        (N, 2) spot centres in pixels of level 0.
    um_per_px
        Pixel size in micrometres.
    metadata
        HEST's metadata; ``inter_spot_dist`` in micrometres may be absent or no number.
    """
    said = metadata.get("inter_spot_dist")
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < math.inf or len(centres) < 2:
        return None
    found = float(np.median(scipy.spatial.KDTree(centres).query(centres, k=[2])[0])) * um_per_px
    if abs(found / said - 1) <= _TOLERATED_DISTANCE:
        return None
    return f"spots are {found:.0f} um apart at {um_per_px:.4g} um/px, inter_spot_dist in the metadata is {said:g} um"


def extract_patches(
    slide: Path,
    centres: np.ndarray,
    barcodes: Sequence[str],
    um_per_px: float,
    output: Path,
    target_px: int = 224,
    target_um_per_px: float = 0.5,
    threads: int = 1,
) -> dict[str, object]:
    """Cut one square patch around every spot and write them in HEST's patch schema.

    A patch covers ``round(target_px * target_um_per_px / um_per_px)`` pixels of level 0 from an integer corner, so its
    centre lies within half a pixel of the spot's. It is read from the coarsest level that still resolves the target and
    resized with an antialiased bicubic filter. What lies beyond the slide is white, the colour of empty glass; HEST
    pads black there.

    Parameters
    ----------
    slide
        Slide that OpenSlide reads.
    centres
        (N, 2) spot centres (x, y) in pixels of level 0.
    barcodes
        N unique labels, in the order of `centres`, which is also the order in the file.
    um_per_px
        Pixel size of level 0 in micrometres.
    output
        HDF5 file to write, atomically.
    target_px, target_um_per_px
        Edge of a patch in pixels and their size in micrometres; 224 at 0.5 um/px is a square of 112 um.
    threads
        How many read and resize; the patches do not depend on it.

    Returns
    -------
    dict
        JSON-ready facts: how many patches, the barcodes dropped because their patch lies wholly outside the slide, and
        how the patches were read.

    Raises
    ------
    InputError
        If the slide cannot be read, centres and barcodes do not fit together, or no patch touches the slide.
    """
    centres, barcodes = _check_spots(slide, centres, barcodes)
    downsample = target_um_per_px / um_per_px
    source_px = round(target_px * downsample)
    corners = np.floor(centres - source_px / 2 + 0.5).astype(np.int64)
    with open_slide(slide) as opened:
        inside = ((corners + source_px > 0) & (corners < opened.dimensions)).all(axis=1)
        if not inside.any():
            raise InputError(
                slide, "spot centres", f"all {len(inside)} patches outside {opened.dimensions} px", "pixels of level 0"
            )
        dropped = [str(barcode) for barcode in barcodes[~inside]]
        if dropped:
            log.warning("%s: %d patches lie wholly outside the slide: %s", slide, len(dropped), ", ".join(dropped))
        corners = corners[inside]
        level = opened.get_best_level_for_downsample(downsample * _LEVEL_SLACK)
        level_downsample = opened.level_downsamples[level]
        opened.set_cache(openslide.OpenSlideCache(TILE_CACHE_BYTES))
        squares = _squares(corners, source_px, level_downsample, target_px)

        with (
            _regions(slide, opened, level, squares) as region,
            atomic(output) as temporary,
            h5py.File(temporary, "w") as file,
            syncing(temporary),
        ):
            images = _create_patch_file(file, corners, barcodes[inside], target_px)
            for dataset in (images, file[COORDS]):
                dataset.attrs.update(
                    patch_size_src=source_px, patch_size_target=target_px, downsample=downsample, pixel_size=um_per_px
                )

            def cut(rows: np.ndarray) -> None:
                for row in rows:
                    images.id.write_direct_chunk((row, 0, 0, 0), _read_patch(region, squares[row], target_px))

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(cut, _runs(corners, source_px, threads)))
    return {
        "n_patches": len(corners),
        "dropped_outside_slide": dropped,
        "um_per_px": um_per_px,
        "patch_um": source_px * um_per_px,
        "patch_size_src": source_px,
        "patch_size_target": target_px,
        "level": level,
        "level_downsample": level_downsample,
        "filter": RESAMPLING.name.lower(),
    }


def _check_spots(slide: Path, centres: np.ndarray, barcodes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    centres = np.asarray(centres, dtype=float)
    barcodes = np.asarray(barcodes, dtype=str)
    if centres.ndim != 2 or centres.shape[1] != 2 or len(centres) == 0:
        raise InputError(slide, "spot centres", f"shape {centres.shape}", "(N, 2) with N > 0")
    if not np.isfinite(centres).all():
        raise InputError(slide, "spot centres", "missing or infinite values", "finite pixels of level 0")
    if len(barcodes) != len(centres) or len(np.unique(barcodes)) != len(barcodes):
        raise InputError(
            slide, "barcodes", f"{len(np.unique(barcodes))} different ones", f"{len(centres)}, one for each spot centre"
        )
    return centres, barcodes


def _create_patch_file(file: h5py.File, corners: np.ndarray, barcodes: np.ndarray, target_px: int) -> h5py.Dataset:
    file.create_dataset(COORDS, data=corners, chunks=(1, 2), maxshape=(None, 2))
    labels = barcodes.astype(object)[:, None]
    file.create_dataset(BARCODES, data=labels, dtype=h5py.string_dtype("utf-8"), chunks=(1, 1), maxshape=(None, 1))
    shape = (target_px, target_px, 3)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # one after the other, whatever the order of writing
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
    """Rows of `corners` in bands of one patch's height, each from left to right, in runs of neighbours."""
    order = np.lexsort((corners[:, 0], corners[:, 1] // source_px))
    n_runs = max(math.ceil(len(order) / _PATCHES_PER_RUN), _RUNS_PER_THREAD * threads)
    return np.array_split(order, n_runs)


class _Square(NamedTuple):
    """What is read around a patch, and where in it the patch lies.

    Attributes
    ----------
    location
        (x, y) in pixels of level 0.
    n_px
        Edge in pixels of the level that is read.
    box
        Left, top, right and bottom of the patch in the square; ``None`` where the square is the patch.
    """

    location: tuple[int, int]
    n_px: int
    box: tuple[float, float, float, float] | None


def _squares(corners: np.ndarray, source_px: int, downsample: float, target_px: int) -> list[_Square]:
    """The square to read for each patch of `source_px` level-0 pixels at (N, 2) `corners`.

    It is read from a level of the given `downsample`.
    """
    starts, size = corners / downsample, source_px / downsample
    # the kernel looks beyond the square; without this rim the patch's edge pixels would be filtered differently
    rim = math.ceil(_KERNEL_RADIUS * max(1.0, size / target_px))
    firsts = np.floor(starts).astype(int) - rim
    n_px = math.ceil(size) + 2 * rim + 1
    locations = np.round(firsts * downsample).astype(int)
    offsets = starts - locations / downsample
    # pixel by pixel what is there
    as_it_is = (starts == np.floor(starts)).all(axis=1) & (size == target_px)
    return [
        _Square((x, y), target_px, None)
        if whole
        else _Square((near_x, near_y), n_px, (left, top, left + size, top + size))
        for whole, (x, y), (near_x, near_y), (left, top) in zip(
            as_it_is.tolist(), corners.tolist(), locations.tolist(), offsets.tolist(), strict=True
        )
    ]


def _read_patch(region: Region, square: _Square, target_px: int) -> np.ndarray:
    """The patch in a square as (target_px, target_px, 3) uint8."""
    pixels = region(square.location, square.n_px)
    if square.box is None:
        return pixels
    image = Image.new("RGB", (square.n_px, square.n_px), None)  # fromarray would fill it first
    image.frombytes(pixels)
    return np.asarray(image.resize((target_px, target_px), RESAMPLING, square.box))


@contextmanager
def _regions(path: Path, slide: openslide.OpenSlide, level: int, squares: Sequence[_Square]) -> Iterator[Region]:
    """Yield what reads `squares` of a level: its tiles directly where that shows the same pixels, or else OpenSlide."""
    tiles = TiffTiles.of_level(path, slide, level)
    if tiles is None:
        yield lambda location, n_px: np.asarray(_on_white(slide.read_region(location, level, (n_px, n_px))))
        return
    downsample = round(slide.level_downsamples[level])

    def on_level(location: tuple[int, int]) -> tuple[int, int]:
        return location[0] // downsample, location[1] // downsample

    tiles.expect((*on_level(square.location), square.n_px) for square in squares)
    with open(path, "rb") as file:
        yield lambda location, n_px: tiles.region(file.fileno(), *on_level(location), n_px)


def _on_white(region: Image.Image) -> Image.Image:
    """RGB of an RGBA region; OpenSlide leaves what it has no pixels for transparent."""
    alpha = region.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return region.convert("RGB")
    white = Image.new("RGB", region.size, "white")
    white.paste(region, mask=alpha)
    return white


def read_patches_index(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, object]]:
    """Check a patch file of HEST's layout and return what it holds beside the pixels.

    Older HEST files (before August 2024) have 256 px images and neither ``coords`` nor attributes; they are accepted.

    Parameters
    ----------
    path
        HDF5 file with ``img`` uint8 (N, height, width, 3) and ``barcode`` (N,) or (N, 1), bytes or str.

    Returns
    -------
    barcodes
        (N,) unique labels as str, in the order of the images.
    coords
        (N, 2) int64 top-left corners in pixels of level 0, or None.
    attrs
        Attributes of ``img``, e.g. ``patch_size_src`` and ``pixel_size``.

    Raises
    ------
    InputError
        If the file is unreadable or half-written, or its datasets do not fit the schema or each other.
    """
    try:
        with h5py.File(path, "r") as file:
            barcodes = _read_barcodes(path, file)
            _check_images(path, file, len(barcodes))
            coords = _read_coords(path, file, len(barcodes)) if COORDS in file else None
            return barcodes, coords, dict(file[IMAGES].attrs)
    except (OSError, RuntimeError) as error:  # both are HDF5's for a damaged file
        raise InputError(
            path, "file", f"unreadable ({_first_line(error)})", "an HDF5 file of patches; make or fetch it again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
        raise InputError(path, BARCODES, "labels that are no UTF-8", "UTF-8 strings") from error
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
    if images.chunks and (n_written := images.id.get_num_chunks()) < (n_chunks := _n_chunks(images)):
        # HDF5 would give black pixels for what was never written
        found = f"{n_written} of {n_chunks} chunks, the others were never written"
        raise InputError(path, IMAGES, found, "a file whose writer was not cut off")
    try:
        _ = images[0], images[-1]
    except OSError as error:
        raise InputError(
            path, IMAGES, f"unreadable patches ({_first_line(error)})", "a file whose writer was not cut off"
        ) from error


def _n_chunks(dataset: h5py.Dataset) -> int:
    return math.prod(math.ceil(edge / chunk) for edge, chunk in zip(dataset.shape, dataset.chunks, strict=True))


def _read_coords(path: Path, file: h5py.File, n_patches: int) -> np.ndarray:
    coords = _dataset(path, file, COORDS, f"integers ({n_patches}, 2)")
    if coords.shape != (n_patches, 2) or coords.dtype.kind not in "iu":
        raise InputError(path, COORDS, f"{coords.dtype} {coords.shape}", f"integers ({n_patches}, 2)")
    return coords[()].astype(np.int64)


def check_centres(
    coords: np.ndarray, attrs: Mapping[str, object], centres: np.ndarray, barcodes: Sequence[str], source: object
) -> None:
    """Check that patches show their spots: a spot's centre may lie no more than half a patch from its patch's.

    Parameters
    ----------
    coords, attrs
        As :func:`read_patches_index` returns them, for N patches; without ``patch_size_src`` nothing can be checked.
    centres, barcodes
        (N, 2) spot centres in pixels of level 0 and their N labels, in the order of the patches.
    source
        Patch file, named in messages.

    Raises
    ------
    InputError
        Naming the first patch that does not show its spot.
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
    if len(offset) and (median := float(np.median(offset))) > _TOLERATED_OFFSET_PX:
        log.warning("%s: patches lie %.0f px from their spots in the median", source, median)


def match_patches(patch_barcodes: Sequence[str], obs_names: Sequence[str], source: object) -> np.ndarray:
    """For every spot the row of its patch, joined by label, as patch files hold other orders and fewer spots.

    Parameters
    ----------
    patch_barcodes
        N unique labels of the patches.
    obs_names
        M unique labels of the spots.
    source
        Patch file, named in the error.

    Returns
    -------
    np.ndarray
        (M,) int64 rows into the patches; -1 for a spot without a patch.

    Raises
    ------
    InputError
        If a patch belongs to no spot, which means that the files are of different samples or label styles.
    """
    row_of = {str(barcode): row for row, barcode in enumerate(patch_barcodes)}
    unknown = row_of.keys() - {str(name) for name in obs_names}
    if unknown:
        raise InputError(
            source, BARCODES, f"{len(unknown)} labels of no spot, e.g. {min(unknown)}", "labels of the counts' spots"
        )
    return np.array([row_of.get(str(name), -1) for name in obs_names], dtype=np.int64)


def write_thumbnail(slide: Path, output_png: Path, longest_edge: int = 1000) -> tuple[int, int]:
    """Write the whole slide as an RGB PNG of at most `longest_edge` pixels; return level 0's (width, height) in pixels.

    Raises
    ------
    InputError
        If the slide cannot be read.
    """
    with open_slide(slide) as opened:
        image = _small_picture(opened, slide, longest_edge)
        with atomic(output_png) as temporary:
            image.save(temporary)
        return opened.dimensions


def _small_picture(opened: openslide.OpenSlide, slide: Path, longest_edge: int) -> Image.Image:
    """The whole slide on white, of at most `longest_edge` pixels.

    OpenSlide's own takes the whole level into memory, which without a pyramid is the whole slide; here it comes in
    strips.
    """
    downsample = max(opened.dimensions) / longest_edge
    level = opened.get_best_level_for_downsample(max(downsample, 1.0))
    width, height = opened.level_dimensions[level]
    if width * height > _MOST_PX:
        remedy = f"a pyramid with a level of at most {_MOST_PX:.0e} pixels (vips tiffsave --tile --pyramid makes one)"
        raise InputError(slide, "slide", f"a smallest level of {width} x {height} px", remedy)
    shrink = max(1.0, max(width, height) / longest_edge)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    picture = Image.new("RGB", size, "white")
    rows_at_once = max(1, int(_STRIP_PX / width / shrink))  # of the picture
    for top in range(0, size[1], rows_at_once):
        rows = min(rows_at_once, size[1] - top)
        first, last = round(top * height / size[1]), round((top + rows) * height / size[1])
        location = 0, round(first * opened.level_downsamples[level])
        strip = opened.read_region(location, level, (width, max(1, last - first)))
        part = Image.new("RGB", strip.size, "white")
        part.paste(strip, mask=strip.getchannel("A"))
        picture.paste(part.resize((size[0], rows), Image.Resampling.LANCZOS), (0, top))
    return picture
