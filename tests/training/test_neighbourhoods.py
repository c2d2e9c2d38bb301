"""Which spots belong together, against brute force over all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from spotwise.errors import InputError
from spotwise.training import neighbourhoods
from spotwise.training.neighbourhoods import exemplars, nearest_known, random_windows, spatial_neighbours, tiles

SLIDES = {"A": 60, "B": 37, "C": 5}


def slides(seed=0):
    """Centres of spots of three slides that lie over each other, in mixed order."""
    rng = np.random.default_rng(seed)
    sample = rng.permutation(np.repeat(np.array(list(SLIDES), dtype=object), list(SLIDES.values())))
    return rng.uniform(0, 100, size=(len(sample), 2)), sample


def distances(a, b):
    return np.linalg.norm(a[:, None].astype(np.float64) - b[None].astype(np.float64), axis=2)


# --- neighbours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_neighbours_equal_brute_force(n):
    spatial, sample = slides()
    distance = np.where(sample[:, None] == sample, distances(spatial, spatial), np.inf)
    near = spatial_neighbours(spatial, sample, n)
    assert near.dtype == np.int64
    np.testing.assert_array_equal(near, np.argsort(distance, axis=1)[:, :n])


def test_every_spot_is_its_own_first_neighbour_and_all_are_of_its_slide():
    spatial, sample = slides()
    near = spatial_neighbours(spatial, sample, 9)
    np.testing.assert_array_equal(near[:, 0], np.arange(len(sample)))
    assert (sample[near] == sample[:, None]).all()


def test_a_slide_of_fewer_spots_repeats_its_farthest():
    spatial, sample = slides()
    rows = np.flatnonzero(sample == "C")
    near = spatial_neighbours(spatial, sample, 8)[rows]
    np.testing.assert_array_equal(near[:, :5], spatial_neighbours(spatial, sample, 5)[rows])
    assert (near[:, 5:] == near[:, 4:5]).all()


def test_a_slide_of_one_spot_shows_only_that_spot():
    near = spatial_neighbours(np.zeros((2, 2)), np.array(["A", "B"], dtype=object), 3)
    np.testing.assert_array_equal(near, [[0, 0, 0], [1, 1, 1]])


def test_spots_at_one_place_come_first_in_their_own_lists_and_none_comes_twice():
    spatial = np.concatenate([np.full((6, 2), 3.0), [[4.0, 3.0], [5.0, 3.0]]])
    near = spatial_neighbours(spatial, np.full(8, "A", dtype=object), 4)
    np.testing.assert_array_equal(near[:, 0], np.arange(8))
    assert all(len(set(row)) == 4 for row in near)
    assert set(near[:6].flat) <= set(range(6))


def test_the_nearest_known_spot_equals_brute_force_and_is_itself_where_it_is_known():
    spatial, sample = slides()
    known = np.random.default_rng(1).random(len(sample)) < 0.4
    known[np.flatnonzero(sample == "C")[0]] = True  # the only one of its slide
    distance = np.where((sample[:, None] == sample) & known, distances(spatial, spatial), np.inf)
    found = nearest_known(spatial, sample, known)
    np.testing.assert_array_equal(found, distance.argmin(axis=1))
    np.testing.assert_array_equal(found[known], np.flatnonzero(known))


# --- windows ----------------------------------------------------------------------------------------------------------


def drawn(size, seed=0):
    spatial, sample = slides()
    return random_windows(spatial, sample, size, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [1, 7, 20, 37, 60, 1000])
def test_a_slide_of_n_spots_gives_n_over_size_windows_rounded_up(size):
    _, sample = slides()
    of = [set(sample[window]) for window in drawn(size)]
    assert all(len(one) == 1 for one in of)
    for slide, spots in SLIDES.items():
        assert of.count({slide}) == -(-spots // size)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_a_window_is_one_spot_and_those_nearest_to_it(size):
    spatial, sample = slides()
    for window in drawn(size):
        rows = np.flatnonzero(sample == sample[window[0]])
        nearest = rows[np.argsort(distances(spatial[rows], spatial[rows]), axis=1)[:, :size]]
        assert any(np.array_equal(window, np.sort(around)) for around in nearest)


def test_a_slide_no_larger_than_a_window_is_one_window():
    _, sample = slides()
    windows = drawn(37)
    for slide in ("B", "C"):
        assert any(np.array_equal(window, np.flatnonzero(sample == slide)) for window in windows)


def test_windows_of_an_epoch_follow_their_generator():
    first, again, other = (drawn(10, seed) for seed in (3, 3, 4))
    assert all(itertools.starmap(np.array_equal, zip(first, again, strict=True)))
    assert not all(itertools.starmap(np.array_equal, zip(first, other, strict=True)))


def test_slides_take_turns_within_an_epoch():
    _, sample = slides()
    order = [sample[window[0]] for window in drawn(3)]
    runs = sum(one != other for one, other in itertools.pairwise(order)) + 1
    assert runs > len(SLIDES)


def test_windows_of_one_slide_have_different_centres():
    """As many windows of one spot as there are spots are all the spots."""
    assert sorted(int(window[0]) for window in drawn(1)) == list(range(sum(SLIDES.values())))


# --- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 20, 60, 1000])
def test_tiles_hold_every_spot_once_at_most_size_together_and_one_slide_each(size):
    spatial, sample = slides()
    found = tiles(spatial, sample, size)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(len(sample)))
    assert all(len(tile) <= size and len(set(sample[tile])) == 1 for tile in found)
    assert all((np.diff(tile) > 0).all() for tile in found)


def test_any_two_tiles_of_a_slide_are_parted_by_a_straight_line():
    spatial, sample = slides()
    for one, other in itertools.combinations(tiles(spatial, sample, 7), 2):
        if sample[one[0]] == sample[other[0]]:
            a, b = spatial[one], spatial[other]
            assert ((a.max(axis=0) < b.min(axis=0)) | (b.max(axis=0) < a.min(axis=0))).any()


def test_tiles_are_at_least_half_full_where_a_slide_is_larger():
    spatial, sample = slides()
    assert all(len(tile) >= 3 for tile in tiles(spatial, sample, 7))


def test_a_strip_of_tissue_is_cut_across():
    rng = np.random.default_rng(0)
    spatial = rng.uniform(size=(32, 2)) * [1, 100]
    found = tiles(spatial, np.full(32, "A", dtype=object), 8)
    along = np.argsort(spatial[:, 1])
    assert {tuple(tile) for tile in found} == {tuple(sorted(part)) for part in np.split(along, 4)}


def test_spots_at_one_place_are_tiled_too():
    found = tiles(np.zeros((9, 2)), np.full(9, "A", dtype=object), 2)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(9))
    assert max(map(len, found)) <= 2


# --- exemplars --------------------------------------------------------------------------------------------------------


def features(many, of, levels=None, seed=0):
    """Features and slides of spots; with ``levels``, of few whole numbers, so that many distances are equal."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(many, 4)) if levels is None else rng.integers(0, levels, size=(many, 4))
    return found.astype(np.float32), rng.choice(np.array(list(of), dtype=object), many)


def brute_force(queries, query_sample, keys, key_sample, k):
    """One query at a time, in plain Python; sorting pairs settles equal distances by row."""
    found = []
    for query, own in zip(queries, query_sample, strict=True):
        pairs = [
            (float(((query.astype(np.float64) - key) ** 2).sum()), row)
            for row, (key, slide) in enumerate(zip(keys, key_sample, strict=True))
            if slide != own
        ]
        found.append([row for _, row in sorted(pairs)[:k]])
    return np.array(found)


@pytest.mark.parametrize("levels", [None, 2, 3])
@pytest.mark.parametrize("k", [1, 6])
def test_exemplars_equal_brute_force_equal_distances_in_the_order_of_rows(levels, k):
    bank = features(50, "ABC", levels)
    queries = features(30, "ABCD", levels, seed=1)
    found = exemplars(*queries, *bank, k)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, brute_force(*queries, *bank, k))


def test_a_training_spot_is_shown_no_spot_of_its_own_slide():
    spots, sample = features(50, "ABC", levels=2)
    near = exemplars(spots, sample, spots, sample, 5, same=np.arange(50))
    assert (sample[near] != sample[:, None]).all()


def test_with_one_slide_only_the_query_itself_is_left_out():
    spots, _ = features(20, "A")
    sample = np.full(20, "A", dtype=object)
    same = np.where(np.arange(20) % 2, np.arange(20), -1)  # every other one is no candidate itself
    near = exemplars(spots, sample, spots, sample, 19, same)
    order = np.argsort(distances(spots, spots), axis=1)
    np.testing.assert_array_equal(near[1::2], order[1::2, 1:])
    np.testing.assert_array_equal(near[::2], order[::2, :19])


def test_test_spots_choose_from_the_whole_of_a_single_training_slide():
    bank, queries = features(20, "A"), features(8, "B", seed=1)
    near = exemplars(*queries, *bank, 20, same=np.full(8, -1))
    np.testing.assert_array_equal(near, np.argsort(distances(queries[0], bank[0]), axis=1))


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("at_once", [1, 7])
@pytest.mark.parametrize("of", ["AB", "A"])
def test_blocks_give_the_same_as_no_blocks(monkeypatch, levels, at_once, of):
    spots, sample = features(40, of, levels)
    same = np.arange(40)[::-1].copy()
    whole = exemplars(spots[::-1], sample[::-1], spots, sample, 6, same)
    monkeypatch.setattr(neighbourhoods, "BLOCK_BYTES", at_once * 8 * 40)
    np.testing.assert_array_equal(exemplars(spots[::-1], sample[::-1], spots, sample, 6, same), whole)


def test_too_few_spots_of_other_slides_are_refused():
    bank, sample = features(9, "A")[0], np.array(list("AAAAAABBB"), dtype=object)
    exemplars(bank, sample, bank, sample, 3)
    with pytest.raises(InputError, match="exemplars: training spots to choose from: found 3, expected at least 4"):
        exemplars(bank, sample, bank, sample, 4)


def test_a_single_slide_of_too_few_spots_is_refused():
    spots, sample = features(5, "A")
    exemplars(spots, sample, spots, sample, 4, same=np.arange(5))
    with pytest.raises(InputError, match="found 4, expected at least 5"):
        exemplars(spots, sample, spots, sample, 5, same=np.arange(5))


def test_distances_far_from_the_origin_are_not_lost_to_rounding():
    bank, queries = features(30, "A"), features(10, "B", seed=1)
    far = queries[0] + np.float32(2000), queries[1], bank[0] + np.float32(2000), bank[1], 3
    np.testing.assert_array_equal(exemplars(*far), brute_force(*far))
