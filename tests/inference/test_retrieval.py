"""Claims about retrieval: exact, deterministic, blind to block size."""

import numpy as np
import pytest

from spotwise.errors import InputError
from spotwise.inference.retrieval import Embeddings, distance_weights, read_embeddings, retrieve, write_embeddings
from spotwise.models import similarity_search
from spotwise.models.similarity_search import nearest


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
    monkeypatch.setattr(similarity_search, "BLOCK_BYTES", block_bytes)
    predicted, k_used = retrieve(*world, k)
    assert k_used == k
    np.testing.assert_allclose(predicted, brute_force(*world, k), rtol=2e-5)


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


def test_embeddings_are_stored_at_length_1(tmp_path):
    path = tmp_path / "bank.safetensors"
    write_embeddings(path, Embeddings.of(np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32), np.array([7, 9])))
    read = read_embeddings(path)
    np.testing.assert_allclose(read.unit, [[0.6, 0.8], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(read.length, [5, 2], rtol=1e-6)
    assert read.row.tolist() == [7, 9]


def test_missing_and_damaged_embeddings_are_refused(tmp_path):
    path = tmp_path / "BLEEP/fold0/seed1/bank.safetensors"
    path.parent.mkdir(parents=True)
    write_embeddings(path, Embeddings.of(np.eye(4, dtype=np.float32), np.arange(4)))
    whole = path.read_bytes()
    for content, found in ((whole[:50], "a damaged file"), (b"", "a damaged file"), (None, "none")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            read_embeddings(path)
        remedy = f"delete {tmp_path / 'BLEEP'} and run again"
        assert str(refused.value) == f"{path}: file: found {found}, expected embeddings: {remedy}"
