"""Retrieval: the bank of training spots, the exact search for the most similar, the mean of their expression.

As in CMRCNet's section "Similarity-based retrieval in inference stage" and BLEEP's ``average`` matching: cosine
similarity between the embedding of a test patch and the embeddings of training expression, top K, unweighted mean of
the matches' log-normalised expression. BLEEP's ``simple`` matching is K = 1, its ``weighted`` one is
:func:`distance_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from spotwise.files import atomic

BLOCK_BYTES = 256 * 2**20  # of similarities held at once


def unit_rows(embedding: np.ndarray) -> np.ndarray:
    """(N, D) rows at length 1, float32; a zero row stays zero, so that its cosine is 0 with everything."""
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.divide(embedding, length, out=np.zeros_like(embedding, dtype=np.float32), where=length > 0)


@dataclass(frozen=True)
class Embeddings:
    """Embedded spots: a bank, or queries.

    Attributes
    ----------
    unit
        (M, D) float32, L2-normalised.
    length
        (M,) float32, what the rows were divided by.
    row
        (M,) int64 rows of ``fold.h5``.
    """

    unit: np.ndarray
    length: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, embedding: np.ndarray, row: np.ndarray) -> Embeddings:
        """From raw embeddings (M, D)."""
        return cls(unit_rows(embedding), np.linalg.norm(embedding, axis=1).astype(np.float32), row.astype(np.int64))

    def __getitem__(self, chosen: np.ndarray) -> Embeddings:
        return Embeddings(self.unit[chosen], self.length[chosen], self.row[chosen])


def write_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write ``bank.safetensors`` or ``queries.safetensors``: ``embedding`` (unit rows), ``length`` and ``row``."""
    content = {"embedding": embeddings.unit, "length": embeddings.length, "row": embeddings.row}
    with atomic(path) as temporary:
        save_file(content, temporary)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read what :func:`write_embeddings` wrote."""
    content = load_file(path)
    return Embeddings(content["embedding"], content["length"], content["row"])


def nearest(queries: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    """The exact ``k`` most similar rows of ``bank`` for each query, in blocks of queries.

    Parameters
    ----------
    queries, bank
        (Q, D) and (M, D), L2-normalised.
    k
        How many; at most M.

    Returns
    -------
    (Q, k) int64, ascending by row. Among equal similarities the lower rows are taken, so that the answer does not
    depend on block size or library.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k} of a bank of {len(bank)} spots")
    found = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, BLOCK_BYTES // (4 * len(bank)))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        found[block] = _top(queries[block] @ bank.T, k)
    return found


def _top(similarity: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` largest of each row, ascending; ties go to the lower column."""
    threshold = np.partition(similarity, -k, axis=1)[:, -k, None]
    above = similarity > threshold
    level = similarity == threshold
    wanted = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1) <= wanted))
    return np.nonzero(chosen)[1].reshape(len(similarity), k)


def distance_weights(queries: Embeddings, bank: Embeddings, matches: np.ndarray) -> np.ndarray:
    """BLEEP's ``weighted`` matching: (Q, k) float32 weights that sum to 1 over each query's matches.

    As in its inference notebook: exp(-(d - d_top + 1)) with d the squared distances of the embeddings before they are
    normalised, and d_top that of the match with the best cosine, which need not be the nearest. With layer-normalised
    embeddings of 256 dimensions the distances are so large that one match takes nearly all of the weight.
    """
    cosine = np.einsum("qd,qkd->qk", queries.unit, bank.unit[matches]).astype(np.float64)
    own, other = queries.length[:, None].astype(np.float64), bank.length[matches].astype(np.float64)
    distance = own**2 + other**2 - 2 * own * other * cosine
    top = np.take_along_axis(distance, cosine.argmax(axis=1)[:, None], axis=1)
    exponent = top - distance - 1
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))  # the same ratios, without overflow
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def average(expression: np.ndarray, matches: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean expression of each query's matches: (M, G) and (Q, k) to (Q, G) float32; ``weights`` (Q, k) sum to 1."""
    n, k = matches.shape
    weights = np.full((n, k), 1 / k, dtype=np.float32) if weights is None else weights
    gather = csr_array((weights.ravel(), matches.ravel(), np.arange(0, n * k + 1, k)), shape=(n, len(expression)))
    return gather @ expression


def retrieve(
    queries: Embeddings, bank: Embeddings, expression: np.ndarray, k: int, weighted: bool = False
) -> tuple[np.ndarray, int]:
    """Predict the expression of queries by the mean of their ``k`` nearest bank spots.

    Parameters
    ----------
    queries, bank
        Q and M embedded spots.
    expression
        (M, G) log-normalised expression of the bank's spots.
    k
        Spots to average; a bank smaller than that is used whole.
    weighted
        Whether matches count by their distance, see :func:`distance_weights`.

    Returns
    -------
    prediction, k_used
        (Q, G) float32, and how many spots were averaged.
    """
    k_used = min(k, len(bank.row))
    matches = nearest(queries.unit, bank.unit, k_used)
    return average(expression, matches, distance_weights(queries, bank, matches) if weighted else None), k_used
