"""Claims about the plane in which spots are laid out."""

import numpy as np
import pytest

from spotwise.structure.organisation import organise, umap
from spotwise.structure.spaces import Space


def rays(n, seed):
    """Spots in three directions, at lengths that differ more than the directions do, and which direction it is."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    return rng.lognormal(0, 1.5, (n, 1)) * (1 + 0.5 * np.eye(3, 8)[group] + 0.02 * rng.normal(size=(n, 8))), group


@pytest.fixture(scope="module")
def slides():
    parts = {sample: rays(n, seed) for seed, (sample, n) in enumerate({"B": 70, "A": 50}.items())}
    spaces = {
        sample: Space(embedding.astype(np.float32), np.array([f"{sample}{spot}" for spot in range(len(group))]), "M", 0)
        for sample, (embedding, group) in parts.items()
    }
    return spaces, np.concatenate([group for _, group in parts.values()]), organise(spaces)


def test_spots_of_one_direction_lie_together_for_any_length_and_slide(slides):
    _, group, plane = slides
    points = plane[["umap1", "umap2"]].to_numpy()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = distance.argsort(axis=1)[:, 1:11]
    assert (group[nearest] == group[:, None]).mean() > 0.95
    is_a = (plane["sample"] == "A").to_numpy()
    assert is_a[nearest[~is_a]].mean() > 0.2


def test_rows_are_the_spots_in_their_order(slides):
    spaces, _, plane = slides
    assert list(plane.columns) == ["sample", "barcode", "umap1", "umap2"]
    assert plane["sample"].tolist() == ["B"] * 70 + ["A"] * 50
    assert plane["barcode"].tolist() == [*spaces["B"].barcode, *spaces["A"].barcode]


def test_the_plane_has_the_same_bits_each_time(slides):
    spaces, _, plane = slides
    assert organise(spaces).equals(plane)
    alone = organise({"A": spaces["A"]})
    assert (alone[["umap1", "umap2"]].to_numpy() == umap(spaces["A"].embedding)).all()


def test_a_slide_of_fewer_spots_than_neighbours_has_a_plane():
    assert np.isfinite(umap(rays(9, 3)[0])).all()
