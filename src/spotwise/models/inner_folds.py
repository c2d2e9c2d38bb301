"""Groups of training spots that are left out in turn to choose settings."""

from __future__ import annotations

import numpy as np
import scipy  # imports subpackages on first use


def inner_groups(group: np.ndarray, spatial: np.ndarray, n_blocks: int) -> np.ndarray:
    """Return the inner fold (N,) of each spot: its ``group``, or within a single group one of its spatial blocks.

    ``group`` (N,) is the slide or patient of each spot, ``spatial`` (N, 2) its centre.
    """
    if len(set(group)) > 1:
        return group
    return scipy.cluster.vq.kmeans2(spatial, n_blocks, minit="++", rng=0)[1]
