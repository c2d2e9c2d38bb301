"""Claims about the size of nuclei in patches."""

import numpy as np
import pytest

from spotwise.data.nuclear_size import MIN_NUCLEI, measure_nuclei
from spotwise.data.stain_statistics import STAINS

EDGE = 120


def picture(radius, n=16, seed=0, haematoxylin=0.9, eosin=0.4, light=1.0):
    """Dark disks of a radius on a grid, on tissue of eosin."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:EDGE, :EDGE]
    step = EDGE / np.sqrt(n)
    nuclei = np.zeros((EDGE, EDGE))
    for y, x in (np.stack(np.divmod(np.arange(n), int(np.sqrt(n))), axis=1) + 0.5) * step + rng.uniform(-1, 1, (n, 2)):
        nuclei[np.hypot(rows - y, columns - x) <= radius] = haematoxylin
    density = nuclei[..., None] * STAINS[0] + eosin * STAINS[1] + 0.15 * STAINS[0]
    density[:10] = 0  # glass
    return np.clip(256 * light * np.exp(-density) - 1, 0, 255).astype(np.uint8)


def pictures(radius, **looks):
    return np.stack([picture(radius, seed=seed, **looks) for seed in range(6)])


@pytest.mark.parametrize("radius", [4, 6, 9])
def test_the_radius_of_disks_is_found(radius):
    found = measure_nuclei(pictures(radius))
    assert found.radius_px == pytest.approx(radius, abs=0.8)
    assert found.n == 6 * 16


@pytest.mark.parametrize("looks", [{"haematoxylin": 0.5}, {"eosin": 1.0}, {"light": 0.7}])
def test_stain_and_light_hardly_change_the_radius(looks):
    assert measure_nuclei(pictures(6, **looks)).radius_px == pytest.approx(
        measure_nuclei(pictures(6)).radius_px, rel=0.1
    )


def test_a_turned_picture_has_the_same_nuclei():
    images = pictures(6)
    assert measure_nuclei(images.transpose(0, 2, 1, 3)) == pytest.approx(measure_nuclei(images))


def test_a_few_nuclei_have_no_size():
    found = measure_nuclei(pictures(6)[:2])
    assert found.n < MIN_NUCLEI
    assert np.isnan(found.radius_px)


def test_a_blank_picture_has_no_nuclei():
    assert measure_nuclei(np.full((2, 64, 64, 3), 240, dtype=np.uint8)).n == 0
