"""Rings of neighbouring spots on a slide."""

from __future__ import annotations

import numpy as np
import scipy  # imports subpackages on first use

from spotwise.data.spot_array import spot_pitch


def ring_matrices(spatial: np.ndarray, rings: int, pitch: float | None = None) -> list[scipy.sparse.csr_array]:
    """Build the matrices (N, N) that average over the rings around each spot of a slide.

    Ring r holds the spots at r - 0.5 to r + 0.5 pitches from a spot. A row is zero where a spot has no neighbour in the
    ring, so that the mean of values that are centred on the slide is that of the slide.

    Parameters
    ----------
    spatial
        (N, 2) spot centres.
    rings
        Number of rings.
    pitch
        Distance between rings in the unit of the centres; by default the median distance of nearest spots.

    Returns
    -------
    list of csr_array
        The matrices of rings 1 to ``rings``.
    """
    if pitch is None:
        pitch = spot_pitch(spatial) if len(spatial) > 1 else 0.0
    if not pitch:
        return [scipy.sparse.csr_array((len(spatial), len(spatial))) for _ in range(rings)]
    tree = scipy.spatial.KDTree(spatial)
    pairs = tree.query_pairs((rings + 0.5) * pitch, output_type="ndarray")
    distance = np.linalg.norm(spatial[pairs[:, 0]] - spatial[pairs[:, 1]], axis=1) / pitch
    found = []
    for ring in range(1, rings + 1):
        first, second = pairs[(distance > ring - 0.5) & (distance <= ring + 0.5)].T
        rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
        counts = np.bincount(rows, minlength=len(spatial))
        matrix = scipy.sparse.csr_array((1 / counts[rows], (rows, columns)), shape=(len(spatial),) * 2)
        found.append(matrix)
    return found
