"""Organisation of a tissue, shown by UMAP of the spots of a space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from spotwise.constants import BARCODES
from spotwise.structure.spaces import Space

NEIGHBOURS = 15
MIN_DIST = 0.3
METRIC = "cosine"  # rows of joint spaces are unit vectors, and lengths in other spaces mostly reflect depth
SEED = 0


def umap(embedding: np.ndarray) -> np.ndarray:
    """Map ``embedding`` (N, D) to the plane by UMAP (McInnes et al., arXiv:1802.03426).

    A fixed seed and one thread give the same bits on one machine with one set of libraries. Elsewhere the last bits of
    a step may differ, and after hundreds of steps the points lie elsewhere, with mostly the same neighbours. Distances
    between groups and the orientation have no meaning. The result (N, 2) is float64.
    """
    import warnings

    embedding = np.asarray(embedding, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value .* overridden", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*transforming new data", category=UserWarning)
        from umap import UMAP  # seconds to import, with a warning

        neighbours = min(NEIGHBOURS, len(embedding) - 1)
        plane = UMAP(neighbours, min_dist=MIN_DIST, metric=METRIC, random_state=SEED, n_jobs=1)
        with threadpool_limits(1):
            return plane.fit_transform(embedding).astype(np.float64)


def organise(spaces: Mapping[str, Space]) -> pd.DataFrame:
    """Lay out the spots of a space's slides (sample -> space) in one plane.

    Several slides require one model that embedded them all, as other spaces have no common axes. The table has
    ``sample``, ``barcode``, ``umap1`` and ``umap2`` in the order of slides and spots.
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
