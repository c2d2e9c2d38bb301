"""Organisation of a tissue: the spots of a space laid out in the plane by UMAP."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from spotwise.constants import BARCODES
from spotwise.structure.spaces import Space

NEIGHBOURS = 15
MIN_DIST = 0.3
METRIC = "cosine"  # rows of joint spaces are unit vectors, and lengths in the others are rather depth than kind
SEED = 0
FEWEST_APPROXIMATED = 4096  # spots from which UMAP looks for neighbours approximately


def _nearest(embedding: np.ndarray, n_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances (N, n_neighbours) of the nearest neighbours in ``embedding`` (N, D), itself first.

    The bits that UMAP finds for few spots, by code whose compilation takes longer than all the rest.
    """
    from sklearn.metrics import pairwise_distances
    from umap.distances import named_distances

    distance = pairwise_distances(embedding, metric=named_distances[METRIC])
    rows = np.argsort(distance, axis=1, kind="stable")[:, :n_neighbours].astype(np.int32)
    return rows, np.take_along_axis(distance, rows, axis=1)


def umap(embedding: np.ndarray) -> np.ndarray:
    """UMAP (McInnes et al., arXiv:1802.03426) of ``embedding`` (N, D) in the plane: (N, 2) float64.

    With a fixed seed and one thread: the same input gives the same bits on one machine with one set of libraries. On
    another processor or with other versions of umap-learn, numba or NumPy the last bits of a step may differ, and
    hundreds of steps later the points lie elsewhere, with the same neighbours in the main. So distances between groups
    and the orientation mean nothing, and no number is taken from the plane.
    """
    import warnings

    embedding = np.asarray(embedding, dtype=np.float32)  # as UMAP has it
    neighbours = min(NEIGHBOURS, len(embedding) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value .* overridden", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*transforming new data", category=UserWarning)
        from umap import UMAP  # seconds to import

        few = len(embedding) < FEWEST_APPROXIMATED
        plane = UMAP(
            n_neighbors=neighbours,
            min_dist=MIN_DIST,
            metric=METRIC,
            random_state=SEED,
            n_jobs=1,
            precomputed_knn=_nearest(embedding, neighbours) if few else (None, None, None),
        )
        with threadpool_limits(1):
            return plane.fit_transform(embedding).astype(np.float64)


def organise(spaces: Mapping[str, Space]) -> pd.DataFrame:
    """Slides of one space in one plane.

    Parameters
    ----------
    spaces
        By sample; more than one only where one model embedded them all, as others have no common axes.

    Returns
    -------
    DataFrame
        ``sample``, ``barcode``, ``umap1``, ``umap2``; slides and spots in the order given.
    """
    plane = umap(np.concatenate([space.embedding for space in spaces.values()]))
    return pd.DataFrame(
        {
            "sample": np.repeat(list(spaces), [len(space.embedding) for space in spaces.values()]),
            BARCODES: np.concatenate([space.barcode for space in spaces.values()]),
            "umap1": plane[:, 0],
            "umap2": plane[:, 1],
        }
    )
