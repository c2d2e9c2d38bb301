"""Claims about the search for the most similar rows: exact, deterministic, blind to block size."""

import numpy as np
import pytest

from spotwise.models import similarity_search
from spotwise.models.similarity_search import BestRows, nearest, unit_rows


def test_ties_go_to_the_lower_rows():
    bank = unit_rows(np.array([[0, 1], [1, 0], [2, 0], [1, 0], [3, 0]], dtype=np.float32))
    query = np.array([[1, 0]], dtype=np.float32)
    assert nearest(query, bank, 2).tolist() == [[1, 2]]
    assert nearest(query, bank, 4).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block_bytes", [1, 4 * 40 * 7, 4 * 40 * 100, 2**28])
@pytest.mark.parametrize("k", [1, 6, 90, 300])
def test_ties_across_blocks_go_to_the_lower_rows(k, block_bytes, threads, monkeypatch):
    # whole numbers: products are exact, and nearly every query has more equals at its k-th best than fit
    monkeypatch.setattr(similarity_search, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(similarity_search, "QUERIES_AT_ONCE", 13)
    rng = np.random.default_rng(5)
    queries, bank = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (40, 300))
    bank = bank[np.argsort(bank @ [1, 2, 3, 4])]  # for many queries each block beats the one before
    expected = np.sort(np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k], axis=1)
    found = nearest(queries, bank, k, threads)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_candidates_stay_few_even_where_each_block_beats_the_one_before():
    angle = np.linspace(1.5, 0, 4_000)
    bank = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    part = BestRows(np.array([[1, 0]], np.float32), 5)
    most = 0
    for start in range(0, 4_000, 8):
        part.add(bank[start : start + 8], start)
        most = max(most, int(part.n_candidates.max()))
    assert part.rows().tolist() == [[3995, 3996, 3997, 3998, 3999]]
    assert most < 2 * 5


def test_embeddings_that_all_fell_on_one_point_give_the_first_rows():
    bank = np.tile(unit_rows(np.array([[1, 2, 2]], np.float32)), (5_000, 1))
    assert nearest(bank[:3], bank, 4).tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("which", [0, 1])
def test_embeddings_that_are_not_finite_are_refused(which):
    rows = [np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)]
    rows[which][1, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        nearest(*rows, 2)


def test_a_zero_embedding_has_cosine_0_and_no_nan():
    rows = unit_rows(np.array([[0, 0], [3, 4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_k_beyond_the_bank_is_refused_by_the_search_itself():
    with pytest.raises(ValueError, match="bank of 2"):
        nearest(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 3)
