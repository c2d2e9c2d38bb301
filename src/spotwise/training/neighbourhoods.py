"""Neighbours of spots on a slide, windows of contiguous spots, and exemplars in feature space."""

from __future__ import annotations

import numpy as np
import scipy  # imports subpackages on first use

from spotwise.errors import InputError

BLOCK_BYTES = 256 * 2**20  # of distances held at once


def spatial_neighbours(spatial: np.ndarray, sample: np.ndarray, n: int) -> np.ndarray:
    """Find the nearest spots of each spot on its own slide, itself included and first.

    Parameters
    ----------
    spatial, sample
        (N, 2) spot centres and (N,) slides.
    n
        Number of neighbours, itself included. A slide with fewer spots repeats the farthest of them. Ties are broken by
        the tree.

    Returns
    -------
    ndarray
        (N, n) int64 rows of ``spatial``, nearest first.
    """
    found = np.empty((len(spatial), n), dtype=np.int64)
    for slide in dict.fromkeys(sample):
        rows = np.flatnonzero(sample == slide)
        many = min(n, len(rows))
        near = _nearest(spatial[rows], spatial[rows], many)
        # Spots at the same position still come first in their own lists
        own = near == np.arange(len(rows))[:, None]
        near = np.take_along_axis(near, np.argsort(~own, axis=1, kind="stable"), axis=1)
        near[:, 0] = np.arange(len(rows))
        found[rows] = rows[near[:, np.minimum(np.arange(n), many - 1)]]
    return found


def nearest_known(spatial: np.ndarray, sample: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Find the nearest known spot of each spot on its own slide, itself where it is known.

    ``spatial`` (N, 2) are centres, ``sample`` (N,) slides, each of which has a ``known`` (N,) spot. Returns (N,) rows.
    """
    found = np.arange(len(spatial))
    for slide in dict.fromkeys(sample[~known]):
        unknown, candidates = (np.flatnonzero((sample == slide) & (known == wanted)) for wanted in (False, True))
        found[unknown] = candidates[_nearest(spatial[candidates], spatial[unknown], 1)[:, 0]]
    return found


def random_windows(spatial: np.ndarray, sample: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the windows of one epoch, each a random spot and the spots nearest to it.

    A slide of n spots gets ceil(n / size) windows, a smaller slide than ``size`` is one.

    Parameters
    ----------
    spatial, sample
        (N, 2) centres and (N,) slides.
    size
        Spots of a window.
    rng
        Generator of centres and order.

    Returns
    -------
    list of ndarray
        Rows of each window, all of one slide, ascending.
    """
    windows = []
    for slide in dict.fromkeys(sample):
        rows = np.flatnonzero(sample == slide)
        centres = rng.choice(len(rows), -(-len(rows) // size), replace=False)
        near = _nearest(spatial[rows], spatial[rows[centres]], min(size, len(rows)))
        windows += list(np.sort(rows[near], axis=1))
    return [windows[place] for place in rng.permutation(len(windows))]


def tiles(spatial: np.ndarray, sample: np.ndarray, size: int) -> list[np.ndarray]:
    """Divide slides into windows that hold every spot once.

    They are rows like those of :func:`random_windows`. Slides are halved across the longer side until windows have
    ``size`` spots or fewer.
    """
    return [tile for slide in dict.fromkeys(sample) for tile in _halved(spatial, np.flatnonzero(sample == slide), size)]


def exemplars(
    queries: np.ndarray,
    query_sample: np.ndarray,
    candidates: np.ndarray,
    candidate_sample: np.ndarray,
    k: int,
    same: np.ndarray | None = None,
) -> np.ndarray:
    """Find the candidates nearest to each query by Euclidean distance, on other slides than the query's.

    Where all candidates are of one slide, only the query itself is excluded.

    Parameters
    ----------
    queries, query_sample, candidates, candidate_sample
        (Q, F) and (M, F) features, (Q,) and (M,) slides.
    k
        Number of exemplars.
    same
        (Q,) the candidate that is the query itself, -1 where none is.

    Returns
    -------
    ndarray
        (Q, k) int64 rows of ``candidates``, nearest first; equal distances in the order of the rows.

    Raises
    ------
    InputError
        When a query has fewer than ``k`` candidates.
    """
    found = np.empty((len(queries), k), dtype=np.int64)
    keys = candidates.astype(np.float64)
    squares = np.einsum("mf,mf->m", keys, keys)
    one_slide = len(set(candidate_sample)) == 1
    _, number = np.unique(np.concatenate([query_sample, candidate_sample]), return_inverse=True)
    query_slide, key_slide = np.split(number, [len(queries)])
    step = max(1, BLOCK_BYTES // (8 * len(keys)))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        distance = squares - 2 * (queries[block].astype(np.float64) @ keys.T)  # squared, without the query's square
        if not one_slide:
            distance[query_slide[block, None] == key_slide] = np.inf
        elif same is not None:
            itself = np.flatnonzero(same[block] >= 0)
            distance[itself, same[block][itself]] = np.inf
        allowed = int(np.isfinite(distance).sum(axis=1).min())
        if allowed < k:
            raise InputError("exemplars", "training spots to choose from", allowed, f"at least {k}")
        found[block] = _smallest(distance, k)
    return found


def _nearest(spatial: np.ndarray, centres: np.ndarray, n: int) -> np.ndarray:
    """Return the rows (C, n) of ``spatial`` (N, 2) nearest to each of ``centres`` (C, 2), nearest first."""
    tree = scipy.spatial.KDTree(spatial)
    return tree.query(centres, k=range(1, n + 1))[1]  # k = 1 would drop the second axis


def _halved(spatial: np.ndarray, rows: np.ndarray, size: int) -> list[np.ndarray]:
    if len(rows) <= size:
        return [rows]
    longer = int(np.argmax(np.ptp(spatial[rows], axis=0)))
    ranked = rows[np.argsort(spatial[rows, longer], kind="stable")]
    halves = np.sort(ranked[: len(rows) // 2]), np.sort(ranked[len(rows) // 2 :])
    return [tile for half in halves for tile in _halved(spatial, half, size)]


def _smallest(values: np.ndarray, k: int) -> np.ndarray:
    """Return the columns (B, k) of each row's smallest values, smallest first, ties in order."""
    limits = np.partition(values, k - 1, axis=1)[:, k - 1]  # faster than sorting whole rows
    found = np.empty((len(values), k), dtype=np.int64)
    for row, (of_row, limit) in enumerate(zip(values, limits, strict=True)):
        near = np.flatnonzero(of_row <= limit)
        found[row] = near[np.argsort(of_row[near], kind="stable")[:k]]
    return found
