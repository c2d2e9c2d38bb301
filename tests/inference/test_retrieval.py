"""Claims about retrieval: exact, deterministic, blind to block size."""

import numpy as np
import pytest

from spotwise.inference import retrieval
from spotwise.inference.retrieval import Embeddings, distance_weights, read_embeddings, retrieve, write_embeddings
from spotwise.models.similarity_search import nearest, unit_rows


def brute_force(queries, bank, expression, k):
    """One query at a time, by sorting every similarity; ties by row."""
    predicted = []
    for query in queries.unit:
        similarity = [float(np.dot(query, row)) for row in bank.unit]
        best = sorted(range(len(similarity)), key=lambda row: (-similarity[row], row))[:k]
        predicted.append(np.mean([expression[row] for row in best], axis=0))
    return np.array(predicted)


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    queries, bank = (Embeddings.of(rng.normal(size=(n, 16)).astype(np.float32), np.arange(n)) for n in (37, 211))
    return queries, bank, rng.gamma(2, size=(211, 9)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 50, 210, 211])
@pytest.mark.parametrize("block_bytes", [1, 211 * 4 * 5, 2**28])
def test_retrieval_equals_brute_force(world, k, block_bytes, monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", block_bytes)
    predicted, k_used = retrieve(*world, k)
    assert k_used == k
    np.testing.assert_allclose(predicted, brute_force(*world, k), rtol=2e-5)


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
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(retrieval, "QUERIES_AT_ONCE", 13)
    rng = np.random.default_rng(5)
    queries, bank = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (40, 300))
    bank = bank[np.argsort(bank @ [1, 2, 3, 4])]  # for many queries each block beats the one before
    expected = np.sort(np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k], axis=1)
    found = nearest(queries, bank, k, threads)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_few_rows_wait_even_where_each_block_beats_the_one_before():
    angle = np.linspace(1.5, 0, 4_000)
    bank = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    part = retrieval.BestRows(np.array([[1, 0]], np.float32), 5)
    most = 0
    for start in range(0, 4_000, 8):
        part.see(bank[start : start + 8], start)
        most = max(most, int(part.n_waiting.max()))
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


def test_threads_change_no_bit_of_the_mean(world):
    queries, bank, expression = world
    for weighted in (False, True):
        alone, _ = retrieve(queries, bank, expression, 50, weighted)
        for threads in (2, 5):
            np.testing.assert_array_equal(retrieve(queries, bank, expression, 50, weighted, threads)[0], alone)


def test_a_bank_smaller_than_k_is_averaged_whole(world):
    queries, bank, expression = world
    predicted, k_used = retrieve(queries, bank, expression, 500)
    assert k_used == 211
    np.testing.assert_allclose(predicted, np.tile(expression.mean(axis=0), (37, 1)), rtol=1e-5)


def test_one_query_keeps_its_axis(world):
    queries, bank, expression = world
    assert retrieve(queries[np.arange(1)], bank, expression, 3)[0].shape == (1, 9)


def test_a_gene_constant_over_the_bank_stays_exactly_constant(world):
    queries, bank, expression = world
    expression[:, 4] = np.float32(0.1)
    predicted, _ = retrieve(queries, bank, expression, 50)
    assert np.ptp(predicted[:, 4]) == 0


# The example of BLEEP's published matching code, K = 2. Cosines of qa: .943 .818 .314 .105 .681; of qb: .064 .140 .128
# .956 .701. Squared distances of qa: .11 .35 1.31 4.51 .61; of qb: 3.26 3.02 3.06 .46 1.26.
KEYS = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
EXPRESSION = np.array([[1, 0, 2], [0, 3, 1], [4, 1, 0], [2, 2, 2], [5, 0, 0.5]], np.float32)
QUERIES = np.array([[0.9, 0.3, 0.1, 0], [0.1, 0.2, 1.5, 0.4]], np.float32)


@pytest.mark.parametrize(
    ("k", "weighted", "expected"),
    [
        (1, False, [[1, 0, 2], [2, 2, 2]]),
        (2, False, [[0.5, 1.5, 1.5], [3.5, 1, 1.25]]),
        (2, True, [[0.559714, 1.320859, 1.559714], [2.930077, 1.379949, 1.534962]]),
    ],
    ids=["simple", "average", "weighted"],
)
def test_matching_reproduces_bleeps_table(k, weighted, expected):
    bank, queries = Embeddings.of(KEYS, np.arange(5)), Embeddings.of(QUERIES, np.arange(2))
    predicted, _ = retrieve(queries, bank, EXPRESSION, k, weighted)
    np.testing.assert_allclose(predicted, expected, atol=1e-6)


def test_weights_of_layer_normalised_embeddings_fall_on_one_match():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(505, 256))
    rows = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    bank, queries = Embeddings.of(rows[:500], np.arange(500)), Embeddings.of(rows[500:], np.arange(5))
    weights = distance_weights(queries, bank, nearest(queries.unit, bank.unit, 50))
    assert weights.max(axis=1).min() > 0.8  # of 50 matches
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)


def test_a_zero_embedding_has_cosine_0_and_no_nan():
    rows = unit_rows(np.array([[0, 0], [3, 4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_embeddings_are_stored_at_length_1(tmp_path):
    path = tmp_path / "bank.safetensors"
    write_embeddings(path, Embeddings.of(np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32), np.array([7, 9])))
    read = read_embeddings(path)
    np.testing.assert_allclose(read.unit, [[0.6, 0.8], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(read.length, [5, 2], rtol=1e-6)
    assert read.row.tolist() == [7, 9]


def test_k_beyond_the_bank_is_refused_by_the_search_itself():
    with pytest.raises(ValueError, match="bank of 2"):
        nearest(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 3)
