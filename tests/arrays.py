"""Arrays of spots that the tests of structure share."""

import numpy as np


def square(side):
    """Spots of a full square array, row by row: (side * side, 2)."""
    row, column = np.divmod(np.arange(side * side), side)
    return np.stack([column, row], axis=1).astype(float)


def hexagonal(side):
    """Spots of a hexagonal array, every other row shifted by half a pitch."""
    row, column = np.divmod(np.arange(side * side), side)
    return np.stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2], axis=1)


def neighbours(spatial, reach):
    """For each spot those within ``reach`` of it and not itself, by brute force."""
    distance = np.linalg.norm(spatial[:, None] - spatial[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return [np.flatnonzero(row <= reach) for row in distance]
