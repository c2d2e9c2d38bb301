"""Fingerprints of a sample: hashes of its files, picture and counts, and the share of tissue in its patches.

The picture hash is our own. ``imagehash`` has the comparison of adjacent cells (``dhash``, ``dhash_vertical``), but
neither the box around the tissue, without which a changed margin hides a copy (distance .34 instead of .02), nor the
eight symmetries. On the same box it separates copies from other slides as well as ours, not better, and would change
the distances in published audits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from PIL import Image

from spotwise.constants import IMAGES
from spotwise.data.folds import spots_with_patches
from spotwise.data.tissue import TISSUE_DENSITY, optical_density
from spotwise.runtime.files import sha256

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

# --- picture: difference hash (Krawetz 2013) of the middle of the tissue
HASH_EDGE = 16  # cells along a side: 16 x 16 differences to the right and as many downwards
HASH_BITS = 2 * HASH_EDGE**2
DENSITY_RANGE = (TISSUE_DENSITY, 0.35)  # where tissue starts, and has full weight
BOX_QUANTILES = (0.05, 0.95)  # of the tissue along each axis: robust to dust and to a cropped edge

# --- counts: bottom-k sketch (Broder 1997) of hashes of the spots
SKETCH = 256
FEWEST_COUNTS = 20  # spots with fewer may coincide by chance

# --- tissue in a patch
BLOCK_PX = 16  # 8 um at 0.5 um/px, about one nucleus
FLAT_SD = 6.0  # grey values
LEAST_TISSUE = 0.15  # share of a patch, as in HEST's own filter
PATCHES_AT_ONCE = 256


def fingerprint(
    files: Sequence[str | Path], picture: str | Path, counts: AnnData, patches: str | Path
) -> dict[str, object]:
    """Compute all hashes by which the leak audit compares samples.

    Parameters
    ----------
    files
        Input files of the sample, counts, metadata, slide or patches.
    picture
        Thumbnail of the whole slide.
    counts, patches
        Cleaned counts and ``patches.h5``.

    Returns
    -------
    dict
        Ready for JSON: ``files`` (see :func:`file_record`), ``picture`` (:func:`picture_hashes`), ``spots``
        (:func:`spot_sketch`), ``n_spots`` with a patch, and ``n_without_tissue``, those whose patch shows less than
        `LEAST_TISSUE` (:func:`tissue_shares`).
    """
    rows = np.sort(spots_with_patches(counts, patches).patch)
    with Image.open(picture) as image:
        hashes = picture_hashes(image)
    return {
        "files": [file_record(Path(path)) for path in files],
        "picture": hashes,
        "spots": spot_sketch(counts.X, counts.var_names),
        "n_spots": len(rows),
        "n_without_tissue": int((tissue_shares(patches, rows) < LEAST_TISSUE).sum()),
    }


def file_record(path: Path) -> dict[str, object]:
    """Record folder and name, size in bytes and sha256 of a file."""
    return {"path": f"{path.parent.name}/{path.name}", "size": path.stat().st_size, "sha256": sha256(path)}


def picture_hashes(image: Image.Image) -> list[str] | None:
    """Compute difference hashes of a slide's picture in its eight symmetries.

    A bit tells whether a cell of the grid is brighter than the cell to its left, or above. The grid lies over the
    middle of the tissue, not over the picture, so that the width of the margin does not matter.

    Returns
    -------
    list of str or None
        `HASH_BITS` bits each, as hexadecimals, the picture as it is first; ``None`` if the picture shows no tissue.
    """
    box = _middle_of_tissue(image)
    if box is None:
        return None
    edge = HASH_EDGE + 1
    grey = np.asarray(image.convert("L").resize((edge, edge), Image.Resampling.BOX, box=box), dtype=np.int16)
    turned = [np.rot90(grey, quarter_turns) for quarter_turns in range(4)]
    return [_difference_hash(view) for square in turned for view in (square, square[:, ::-1])]


def _middle_of_tissue(image: Image.Image) -> tuple[float, float, float, float] | None:
    """Find the box around `BOX_QUANTILES` of the tissue (left, top, right, bottom)."""
    width, height = image.size
    density = optical_density(image)
    tissue = np.clip(density, *DENSITY_RANGE) - DENSITY_RANGE[0]
    if not tissue.any():
        return None
    left, right = _between_quantiles(tissue.sum(axis=0)) * width / density.shape[1]
    top, bottom = _between_quantiles(tissue.sum(axis=1)) * height / density.shape[0]
    return float(left), float(top), float(right), float(bottom)


def _between_quantiles(weight: np.ndarray) -> np.ndarray:
    """Locate `BOX_QUANTILES` of the weight per cell (N,), in cells."""
    cumulative = np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum()
    return np.interp(BOX_QUANTILES, cumulative, np.arange(len(cumulative)))


def _difference_hash(grey: np.ndarray) -> str:
    rightwards = grey[:-1, 1:] > grey[:-1, :-1]
    downwards = grey[1:, :-1] > grey[:-1, :-1]
    return np.packbits(np.stack([rightwards, downwards])).tobytes().hex()


def picture_distance(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the smallest share of differing bits over all symmetries.

    It is 0 for the same picture and about 0.4 to 0.5 for different ones, both as :func:`picture_hashes` returns them.
    """
    return min((int(first[0], 16) ^ int(turned, 16)).bit_count() for turned in second) / HASH_BITS


def spot_sketch(counts: csr_matrix, genes: Sequence[str]) -> list[str]:
    """Return the `SKETCH` smallest hashes of spots, from counts (N, G).

    The sketches of two slides suffice to estimate their share of common spots. The hash of a spot is the sum over genes
    of its counts times a number derived from the gene's name, modulo 2**64: the order of spots and genes, barcodes, and
    genes without counts do not matter. Spots with fewer than `FEWEST_COUNTS` counts are left out. Hashes are
    hexadecimals of 16 digits, ascending.
    """
    numbers = [int.from_bytes(hashlib.blake2b(gene.encode(), digest_size=8).digest(), "big") for gene in genes]
    enough = np.asarray(counts.sum(axis=1)).ravel() >= FEWEST_COUNTS
    hashes = counts[enough].astype(np.uint64) @ np.array(numbers, dtype=np.uint64)
    return [f"{value:016x}" for value in np.unique(hashes)[:SKETCH]]


def shared_spots(first: Sequence[str], second: Sequence[str]) -> float:
    """Estimate the Jaccard index of two slides' spots from their sketches."""
    union = sorted({*first, *second})[:SKETCH]
    both = {*first} & {*second}
    return sum(spot in both for spot in union) / max(len(union), 1)


def tissue_shares(patches: str | Path, rows: np.ndarray) -> np.ndarray:
    """Compute the share of tissue (N,) in patches at ascending ``rows``.

    Tissue is a block of `BLOCK_PX` pixels with a grey-value SD of at least `FLAT_SD`: structure instead of colour, as
    in Bug, Feuerhake & Merhof (BVM 2015), because glass may be stained, and fat and loose stroma are hardly darker.
    Tissue without structure, or out of focus, is taken for glass. Patches must measure a whole number of blocks.
    """
    shares = []
    with h5py.File(patches) as file:
        for start in range(0, len(rows), PATCHES_AT_ONCE):
            grey = file[IMAGES][rows[start : start + PATCHES_AT_ONCE]].mean(axis=3, dtype=np.float32)
            n, height, width = grey.shape
            blocks = grey.reshape(n, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
            shares.append((blocks.std(axis=(2, 4)) >= FLAT_SD).mean(axis=(1, 2)))
    return np.concatenate(shares)
