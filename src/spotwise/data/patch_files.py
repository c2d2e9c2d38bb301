"""Patch files that come with a sample (``patches/{sample}.h5``): reading, and joining to the spots."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from spotwise.constants import BARCODES, COORDS, DROPPED, IMAGES, PATCH_PX, SPATIAL
from spotwise.data.barcodes import clean_labels
from spotwise.data.patches import PATCH_UM_PER_PX
from spotwise.data.slides import SEEN_PX, a_few, look_at
from spotwise.errors import InputError, first_line
from spotwise.runtime.input_files import open_input

if TYPE_CHECKING:
    from anndata import AnnData

_LAYOUT = "uint8 (N, height, width, 3)"
_CUT_ANEW = "cut patches from the slide instead (data.images: slides)"
_OFFSET_TOLERANCE_PX = 2  # of a patch from its spot: HEST rounds twice
_CORNER_TOLERANCE = 0.05  # of the side of a patch
_PIXEL_SIZE_WARNING, _PIXEL_SIZE_ERROR = 1.02, 1.5  # factors between pixel sizes

# Ways to write a barcode in which two files often differ, and what makes both alike
_WRITTEN_DIFFERENTLY: Mapping[str, Callable[[str], str]] = {
    "a suffix such as '-1' is on one side only": lambda label: re.sub(r"-\d+$", "", label),
    "numbers are padded with zeros on one side only": lambda label: re.sub(r"0*(\d+)", r"\1", label),
    "upper and lower case differ": str.lower,
    "a prefix such as the sample's id is on one side only": lambda label: re.split(r"[_:]", label)[-1],
}


@dataclass(frozen=True)
class PatchJoin:
    """Rows (N,) of the spots' patches, -1 without one, and what is worth knowing of the others."""

    rows: np.ndarray
    n_patches_of_dropped_spots: int
    warnings: list[str]

    @property
    def facts(self) -> dict[str, int]:
        """Numbers for ``qc.json``."""
        return {
            "n_spots_without_patch": int((self.rows < 0).sum()),
            "n_patches_of_dropped_spots": self.n_patches_of_dropped_spots,
        }


def join_patches(path: str | Path, spots: AnnData, um_per_px: float | None = None) -> PatchJoin:
    """Join the spots of a slide to their patches by barcode.

    Parameters
    ----------
    path
        Patch file in HEST's layout.
    spots
        Cleaned slide with ``obsm["spatial"]`` and the barcodes that cleaning dropped.
    um_per_px
        Pixel size of level 0 in micrometres, which the file must not contradict.

    Raises
    ------
    InputError
        The file is malformed, a patch belongs to no spot, has another size or does not lie around its spot, or fewer
        than two spots have one.
    """
    path = Path(path)
    barcodes, coords, attrs = read_patches_index(path)
    with h5py.File(path) as file:
        size = file[IMAGES].shape[1:3]
    if size != (PATCH_PX, PATCH_PX):
        older = ", as in older files of HEST" if size == (256, 256) else ""
        raise InputError(path, IMAGES, f"{size[1]} x {size[0]} px{older}", f"{PATCH_PX} px; {_CUT_ANEW}")
    rows = match_patches(barcodes, [*spots.obs_names, *spots.uns[DROPPED]], path)
    of_dropped, rows = int((rows[spots.n_obs :] >= 0).sum()), rows[: spots.n_obs]
    kept = np.flatnonzero(rows >= 0)
    if not len(kept):
        raise InputError(path, BARCODES, "no barcode of the slide's spots", f"such as {spots.obs_names[0]}")
    if len(kept) == 1:
        raise InputError(path, BARCODES, f"one spot, {spots.obs_names[kept[0]]}", "two or more, to correlate")
    warnings = _scale_warnings(path, attrs, um_per_px)
    if coords is None:
        warnings.append("the patch file has no coords: whether patches lie on their spots cannot be checked")
    else:
        side = _side(attrs, um_per_px)
        warnings += check_centres(coords[rows[kept]], side, spots.obsm[SPATIAL][kept], spots.obs_names[kept], path)
    if len(kept) < spots.n_obs:
        warnings.append(f"{spots.n_obs - len(kept)} of {spots.n_obs} spots have no patch and are left out")
    if of_dropped:
        warnings.append(f"{of_dropped} patches belong to spots that were dropped and are left out")
    return PatchJoin(rows, of_dropped, warnings)


def picture_warnings(path: str | Path, rows: np.ndarray) -> list[str]:
    """Describe patches that are dark, without colours or empty, from the middle of a few of ``rows``."""
    chosen = np.sort(rows[rows >= 0])
    with h5py.File(path) as file:
        middle = slice((PATCH_PX - SEEN_PX) // 2, (PATCH_PX + SEEN_PX) // 2)
        pictures = file[IMAGES][chosen[a_few(len(chosen))], middle, middle]
    return look_at(pictures).warnings("the picture of the patches")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_patches_index(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, object]]:
    """Check a patch file of HEST's layout and return its index.

    The file has ``img`` uint8 (N, height, width, 3) and ``barcode`` (or ``barcodes``) (N,) or (N, 1), bytes or str,
    cleaned as those of the counts. Older files of HEST (before August 2024) have 256 px images and neither ``coords``
    nor attributes.

    Returns
    -------
    barcodes
        (N,) unique barcodes as str, in the order of the images.
    coords
        (N, 2) float64 top-left corners in level-0 pixels, or None.
    attrs
        Attributes of ``img`` and ``coords``, e.g. ``patch_size_src`` and ``pixel_size``.

    Raises
    ------
    InputError
        The file is unreadable or half-written, or its datasets do not match the schema or each other.
    """
    with open_input(path, "an HDF5 file of patches") as file:
        _check_layout(path, file)
        barcodes = _read_barcodes(path, file)
        _check_images(path, file, len(barcodes))
        coords = _read_coords(path, file, len(barcodes)) if COORDS in file else None
        return barcodes, coords, {**(file[COORDS].attrs if coords is not None else {}), **file[IMAGES].attrs}


def _check_layout(path: Path, file: h5py.File) -> None:
    """Say which other program writes such a file, if it holds no images."""
    if isinstance(file.get(IMAGES), h5py.Dataset):
        return
    found, expected = f"no such dataset among {', '.join(file) or 'none'}", _LAYOUT
    labelled = BARCODES in file or f"{BARCODES}s" in file
    if "imgs" in file and labelled:
        found, expected = "the images under the name imgs", "the name img: h5py.File(path, 'r+').move('imgs', 'img')"
    elif "imgs" in file:
        found = "a CLAM file: a grid of patches (imgs) without barcodes of spots"
        expected = f"a patch around every spot, with its barcode; {_CUT_ANEW}"
    elif "features" in file:
        found, expected = "features of an encoder, no images", f"the images; {_CUT_ANEW}"
    elif COORDS in file:
        found = "coordinates without images, as TRIDENT and CLAM write them"
        expected = f"{_LAYOUT}; {_CUT_ANEW}"
    raise InputError(path, IMAGES, found, expected)


def _read_barcodes(path: Path, file: h5py.File) -> np.ndarray:
    name = BARCODES if BARCODES in file else f"{BARCODES}s"
    if not isinstance(file.get(name), h5py.Dataset):
        raise InputError(path, BARCODES, f"no such dataset among {', '.join(file)}", "one label per patch")
    stored = file[name]
    if stored.ndim > 2 or stored.ndim == 0 or stored.size != len(stored) or len(stored) == 0:
        raise InputError(path, BARCODES, f"shape {stored.shape}", "(N,) or (N, 1) with N > 0")
    if stored.dtype.kind not in "SO":
        raise InputError(path, BARCODES, f"dtype {stored.dtype}", "strings")
    try:
        barcodes = np.array(clean_labels(stored[()].ravel()))
    except UnicodeDecodeError as error:
        raise InputError(path, BARCODES, "barcodes that are not UTF-8", "UTF-8 strings") from error
    labels, counts = np.unique(barcodes, return_counts=True)
    if len(labels) < len(barcodes):
        raise InputError(path, BARCODES, f"{labels[counts.argmax()]} {counts.max()} times", "unique labels")
    return barcodes


def _check_images(path: Path, file: h5py.File, n_patches: int) -> None:
    images = file[IMAGES]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        found, expected = f"{images.dtype} {images.shape}", _LAYOUT
        if images.ndim == 4 and images.shape[1] == 3:
            found, expected = f"{found}: channels first", f"{_LAYOUT}: np.moveaxis(images, 1, 3)"
        elif images.dtype.kind == "f":
            expected += ", values 0 to 255"
        raise InputError(path, IMAGES, found, expected)
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
    stored, expected = file[COORDS], f"numbers ({n_patches}, 2): x and y of each patch's corner"
    if not isinstance(stored, h5py.Dataset) or stored.shape != (n_patches, 2) or stored.dtype.kind not in "iuf":
        found = f"{stored.dtype} {stored.shape}" if isinstance(stored, h5py.Dataset) else "no dataset"
        raise InputError(path, COORDS, found, expected)
    coords = stored[()].astype(np.float64)
    if not np.isfinite(coords).all():
        raise InputError(path, COORDS, "values that are not finite", expected)
    return coords


# --- checks -----------------------------------------------------------------------------------------------------------


def match_patches(patch_barcodes: Sequence[str], obs_names: Sequence[str], source: object) -> np.ndarray:
    """Find each spot's patch by its barcode, -1 if it has none.

    Raises
    ------
    InputError
        A patch belongs to no spot: the files come from different samples, or write barcodes differently.
    """
    row_of = {str(barcode): row for row, barcode in enumerate(patch_barcodes)}
    names = [str(name) for name in obs_names]
    unknown = row_of.keys() - set(names)
    if unknown:
        free = [name for name in names if name not in row_of] or names
        found = f"{len(unknown)} barcodes of no spot, e.g. {min(unknown)!r} (of {len(row_of)} patches)"
        expected = f"barcodes of the counts, e.g. {free[0]!r} (of {len(names)} spots)"
        alike = (
            why for why, form in _WRITTEN_DIFFERENTLY.items() if {form(b) for b in unknown} <= set(map(form, free))
        )
        raise InputError(source, BARCODES, found, "; ".join([expected, *list(alike)[:1]]))
    return np.array([row_of.get(name, -1) for name in names], dtype=np.int64)


def check_centres(
    coords: np.ndarray, side: float | None, centres: np.ndarray, barcodes: Sequence[str], source: object
) -> list[str]:
    """Return a warning if patches lie a little off their spots, or raise an `InputError` if they lie elsewhere.

    Parameters
    ----------
    coords, side
        (N, 2) corners of N patches and their side in level-0 pixels; without the side, it follows from the corners.
    centres, barcodes
        (N, 2) spot centres in level-0 pixels and their N barcodes, in the order of the patches.
    source
        Patch file, for messages.
    """
    if side is None:
        side = 2 * max(0.0, float(np.median(centres - coords)))
    half, tolerance = side / 2, max(_OFFSET_TOLERANCE_PX, _CORNER_TOLERANCE * side)
    offset = coords + half - centres
    median = np.median(offset, axis=0)
    expected = "top-left corners (x, y) of patches around the spots in the counts' obsm"
    if np.abs(offset).max() > half or np.abs(median).max() > tolerance:
        exchanged = coords[:, ::-1] + half - centres
        if np.abs(exchanged).max() <= half and np.abs(np.median(exchanged, axis=0)).max() <= tolerance:
            remedy = f"exchange the columns if the images show the spots; if not, {_CUT_ANEW}"
            raise InputError(source, COORDS, "corners as (y, x)", f"(x, y): {remedy}")
    if np.abs(np.median(coords - centres, axis=0)).max() <= tolerance:
        nearer = f"{expected}, half a side left of and above them; if the images begin at the spots, {_CUT_ANEW}"
        raise InputError(source, COORDS, "the spots' own centres", nearer)
    wrong = np.flatnonzero(~(np.abs(offset).max(axis=1) <= half))
    if len(wrong):
        row = wrong[0]
        away = np.abs(offset[row]).max()
        found = f"{len(wrong)} of {len(offset)} patches off their spots, first {barcodes[row]} by {away:.0f} px"
        raise InputError(source, COORDS, found, f"patches of {side:.0f} px around the spots in the counts' obsm")
    if np.abs(median).max() > half / 2:
        found = f"patches that lie ({median[0]:.0f}, {median[1]:.0f}) px from their spots in the median"
        raise InputError(source, COORDS, found, expected)
    away = float(np.median(np.abs(offset).max(axis=1)))
    return [f"patches lie {away:.0f} px from their spots in the median"] if away > _OFFSET_TOLERANCE_PX else []


def _side(attrs: Mapping[str, object], um_per_px: float | None) -> float | None:
    """Return the side of a patch in level-0 pixels, as far as anything tells."""
    downsample, pixel_size = _number(attrs, "downsample"), _number(attrs, "pixel_size") or um_per_px
    derived = PATCH_PX * downsample if downsample else pixel_size and PATCH_PX * PATCH_UM_PER_PX / pixel_size
    return _number(attrs, "patch_size_src") or derived


def _number(attrs: Mapping[str, object], key: str) -> float | None:
    value = np.asarray(attrs.get(key))
    known = value.size == 1 and value.dtype.kind in "iuf" and np.isfinite(value).all() and (value > 0).all()
    return float(value.ravel()[0]) if known else None


def _scale_warnings(path: Path, attrs: Mapping[str, object], um_per_px: float | None) -> list[str]:
    """Compare the scale that a file states with the pixel size of its slide."""
    if um_per_px is None:
        return []
    downsample = _number(attrs, "downsample")
    stated = _number(attrs, "pixel_size") or (downsample and PATCH_UM_PER_PX / downsample)
    warnings = []
    if stated and (factor := max(stated / um_per_px, um_per_px / stated)) > _PIXEL_SIZE_WARNING:
        if factor > _PIXEL_SIZE_ERROR:
            expected = f"{um_per_px:.4g} um/px, as in the metadata; {_CUT_ANEW}"
            raise InputError(path, "pixel_size", f"{stated:.4g} um/px", expected)
        warnings.append(f"patches were cut at {stated:.4g} um/px, the metadata state {um_per_px:.4g} um/px")
    scale, extent = stated or um_per_px, PATCH_PX * PATCH_UM_PER_PX
    side = _number(attrs, "patch_size_src")
    if side and abs(side * scale - extent) > max(scale, (_PIXEL_SIZE_WARNING - 1) * extent):
        warnings.append(f"patches cover {side * scale:.0f} um of tissue, not {extent:.0f} um")
    return warnings
