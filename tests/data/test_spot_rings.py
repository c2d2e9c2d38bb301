"""Claims about rings of neighbouring spots."""

import numpy as np
import pytest

from spotwise.data.spot_rings import ring_matrices


def square(n, pitch=200.0):
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    return pitch * np.column_stack([x.ravel(), y.ravel()]) + 17


def hexagonal(n):
    rows, columns = np.divmod(np.arange(n * n), n)
    return np.column_stack([columns + 0.5 * (rows % 2), rows * np.sqrt(3) / 2]) * 100.0


@pytest.mark.parametrize(("layout", "members"), [(square, (8, 12, 16)), (hexagonal, (6, 12, 24))])
def test_a_spot_inside_has_the_rings_of_its_lattice(layout, members):
    """The square's are at 1 and sqrt 2; 2 and sqrt 5; sqrt 8, 3 and sqrt 10 pitches."""
    matrices = ring_matrices(layout(11), 3)
    middle = 5 * 11 + 5
    counted = [np.count_nonzero(matrix.toarray()[middle]) for matrix in matrices]
    assert tuple(counted) == members


def test_rings_equal_those_by_brute_force():
    spatial = np.random.default_rng(0).uniform(0, 1000, (80, 2))
    distance = np.linalg.norm(spatial[:, None] - spatial, axis=2)
    pitch = np.median(np.sort(distance, axis=1)[:, 1])
    values = np.random.default_rng(1).normal(size=(80, 3))
    for ring, matrix in enumerate(ring_matrices(spatial, 4), start=1):
        inside = (distance > (ring - 0.5) * pitch) & (distance <= (ring + 0.5) * pitch)
        expected = [values[row].mean(axis=0) if row.any() else np.zeros(3) for row in inside]
        np.testing.assert_allclose(matrix @ values, expected, atol=1e-12)


def test_rings_do_not_depend_on_unit_place_and_direction():
    spatial = square(6)
    turned = (spatial @ np.array([[0.0, 1.0], [-1.0, 0.0]])) * 0.37 - 5000
    for one, two in zip(ring_matrices(spatial, 3), ring_matrices(turned, 3), strict=True):
        np.testing.assert_allclose(one.toarray(), two.toarray())


@pytest.mark.parametrize("spatial", [np.zeros((1, 2)), np.zeros((4, 2))])
def test_a_single_spot_has_no_neighbours(spatial):
    for matrix in ring_matrices(spatial, 2):
        assert matrix.shape == (len(spatial), len(spatial))
        assert matrix.nnz == 0


def test_a_stated_pitch_keeps_rings_at_their_distance_on_a_denser_grid():
    """On a grid of half the pitch, a ring has more spots, at the same distances."""
    coarse, dense = square(11), square(21, pitch=100.0)
    for ring, matrix in enumerate(ring_matrices(dense, 2, pitch=200.0), start=1):
        distance = np.linalg.norm(dense - dense[10 * 21 + 10], axis=1)
        inside = (distance > (ring - 0.5) * 200) & (distance <= (ring + 0.5) * 200)
        np.testing.assert_array_equal(np.flatnonzero(matrix.toarray()[10 * 21 + 10]), np.flatnonzero(inside))
    for stated, found in zip(ring_matrices(coarse, 3, pitch=200.0), ring_matrices(coarse, 3), strict=True):
        np.testing.assert_array_equal(stated.toarray(), found.toarray())
