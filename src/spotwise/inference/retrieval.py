"""Retrieval: the bank of training spots, the exact search for the most similar, the mean of their expression.

As in CMRCNet's section "Similarity-based retrieval in inference stage" and BLEEP's ``average`` matching: cosine
similarity between the embedding of a test patch and the embeddings of training expression, top K, unweighted mean of
the matches' log-normalised expression. BLEEP's ``simple`` matching is K = 1, its ``weighted`` one is
:func:`distance_weights`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy  # loads a subpackage when it is used
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from spotwise.runtime.files import atomic

BLOCK_BYTES = 40 * 2**20  # of similarities held at once
QUERIES_AT_ONCE = 2500  # in one product: fewer and BLAS slows down


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


def nearest(queries: np.ndarray, bank: np.ndarray, k: int, threads: int = 1) -> np.ndarray:
    """The exact ``k`` most similar rows of ``bank`` for each query.

    The bank is read once, in blocks, and only the best rows so far are kept: time grows with the bank, memory does not.

    Parameters
    ----------
    queries, bank
        (Q, D) and (M, D), L2-normalised, float32. The bank may be mapped from a file.
    k
        How many; at most M.
    threads
        Queries are divided among so many; the answer does not depend on it.

    Returns
    -------
    (Q, k) int64, ascending by row. Among equal similarities the lower rows are taken, so that the answer does not
    depend on block size or library.

    Raises
    ------
    ValueError
        ``k`` is not within 1 and M, or an embedding is not finite.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k} of a bank of {len(bank)} spots")
    parts = [BestRows(_finite(queries[rows]), k) for rows in _parts(len(queries), QUERIES_AT_ONCE, threads)]
    step = BLOCK_BYTES // (4 * min(len(queries), threads * QUERIES_AT_ONCE) or 1)
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1 if threads > 1 else None, "blas"):
        for rows in _parts(len(bank), step):
            block = _finite(np.asarray(bank[rows]))
            list(pool.map(lambda part, block=block, first=rows.start: part.see(block, first), parts))
    return np.concatenate([part.rows() for part in parts])


class BestRows:
    """The ``k`` most similar of all bank rows seen so far, for some queries.

    Rows that beat a query's k-th best wait until a query has 2k of them; then all are merged. As blocks come in the
    order of the bank, a row that only equals the k-th best is no better.
    """

    def __init__(self, queries: np.ndarray, k: int):
        self.queries = queries
        self.k = k
        self.similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        self.row = np.zeros((len(queries), k), dtype=np.int64)
        self._empty()

    def _empty(self) -> None:
        self.kth_best = self.similarity.min(axis=1, keepdims=True)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.n_waiting = np.zeros(len(self.queries), dtype=np.int64)

    def see(self, block: np.ndarray, first: int) -> None:
        """Take the next rows of the bank, (B, D), the first of them being row ``first``."""
        similarity = self.queries @ block.T
        if first == 0 and len(block) >= self.k:
            self.row = top_columns(similarity, self.k)
            self.similarity = np.take_along_axis(similarity, self.row, axis=1)
            self._empty()
            return
        at = np.flatnonzero(similarity > self.kth_best)
        query, column = np.divmod(at, len(block))
        self.waiting.append((query.astype(np.uint16), column + first, similarity.ravel()[at]))
        self.n_waiting += np.bincount(query, minlength=len(self.queries))
        if self.n_waiting.max(initial=0) >= 2 * self.k:
            self._merge()

    def _merge(self) -> None:
        """Keep the best of the best so far and those that wait; rows stay in ascending order."""
        query, row, similarity = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        order = np.argsort(query, kind="stable")  # of 16 bits: a radix sort
        query = query[order]
        place = np.arange(self.k, self.k + len(query)) - (np.cumsum(self.n_waiting) - self.n_waiting)[query]
        width = self.k + self.n_waiting.max()
        all_similarity = np.full((len(self.queries), width), -np.inf, dtype=np.float32)
        all_rows = np.zeros((len(self.queries), width), dtype=np.int64)
        all_similarity[:, : self.k], all_rows[:, : self.k] = self.similarity, self.row
        all_similarity[query, place], all_rows[query, place] = similarity[order], row[order]
        best = top_columns(all_similarity, self.k)
        self.similarity, self.row = (np.take_along_axis(each, best, axis=1) for each in (all_similarity, all_rows))
        self._empty()

    def rows(self) -> np.ndarray:
        """(Q, k) int64, ascending."""
        if self.waiting:
            self._merge()
        return self.row


def _finite(embedding: np.ndarray) -> np.ndarray:
    if not np.isfinite(embedding).all():
        raise ValueError("embeddings that are not finite")
    return embedding


def _parts(n: int, at_most: int, multiple: int = 1) -> list[slice]:
    """Consecutive slices of ``n`` rows, of one size but for one row, a ``multiple`` of them where ``n`` allows.

    Of one size, as a product with a few rows left over is summed in another order than the others.
    """
    parts = -(-n // max(1, at_most))
    parts = min(n, -(-parts // multiple) * multiple)
    borders = [n * part // parts for part in range(parts + 1)] if n else [0, 0]
    return [slice(start, stop) for start, stop in pairwise(borders)]


def top_columns(similarity: np.ndarray, k: int) -> np.ndarray:
    """Columns (N, k) of the ``k`` largest of each row, ascending; ties go to the lower column."""
    threshold = np.partition(similarity, -k, axis=1)[:, -k, None]
    chosen = similarity >= threshold
    tied = np.flatnonzero(np.count_nonzero(chosen, axis=1) > k)
    if len(tied):
        level = similarity[tied] == threshold[tied]
        wanted = k - np.count_nonzero(similarity[tied] > threshold[tied], axis=1)
        chosen[tied] &= ~level | (np.cumsum(level, axis=1) <= wanted[:, None])
    return (np.flatnonzero(chosen) % similarity.shape[1]).reshape(len(similarity), k)


def approximately_nearest(bank: np.ndarray, threads: int = 1) -> Callable[[np.ndarray, int], np.ndarray]:
    """An index that finds most of the most similar rows: for banks too large to search again and again.

    A graph of neighbours by pynndescent, which comes with scanpy. Building it takes as long as many exact searches, and
    what it misses depends on the data: nothing in the workflow uses it, see ``benchmarks/``.

    Parameters
    ----------
    bank
        (M, D) float32, L2-normalised.
    threads
        To build and search with.

    Returns
    -------
    A function of queries (Q, D) and k that returns (Q, k) int64, ascending by row, as :func:`nearest` does. The same
    bank gives the same index.
    """
    from pynndescent import NNDescent  # seconds to import

    index = NNDescent(bank, metric="cosine", n_neighbors=min(30, len(bank) - 1), random_state=0, n_jobs=threads)
    index.prepare()
    return lambda queries, k: np.sort(index.query(queries, k=k)[0].astype(np.int64), axis=1)


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


def average(
    expression: np.ndarray, matches: np.ndarray, weights: np.ndarray | None = None, threads: int = 1
) -> np.ndarray:
    """Mean expression of each query's matches: (M, G) and (Q, k) to (Q, G) float32; ``weights`` (Q, k) sum to 1.

    ``expression`` may be mapped from a file. ``threads`` share the queries.
    """
    n, k = matches.shape
    weights = np.full((n, k), 1 / k, dtype=np.float32) if weights is None else weights
    means = np.empty((n, expression.shape[1]), dtype=np.result_type(weights, expression))

    def average_part(rows: slice) -> None:
        ends = np.arange(0, (rows.stop - rows.start) * k + 1, k)
        shape = (len(ends) - 1, len(expression))
        gather = scipy.sparse.csr_array((weights[rows].ravel(), matches[rows].ravel(), ends), shape=shape)
        means[rows] = gather @ expression

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(average_part, _parts(n, QUERIES_AT_ONCE, threads)))
    return means


def retrieve(
    queries: Embeddings, bank: Embeddings, expression: np.ndarray, k: int, weighted: bool = False, threads: int = 1
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
    threads
        How many to use.

    Returns
    -------
    prediction, k_used
        (Q, G) float32, and how many spots were averaged.
    """
    k_used = min(k, len(bank.row))
    matches = nearest(queries.unit, bank.unit, k_used, threads)
    weights = distance_weights(queries, bank, matches) if weighted else None
    return average(expression, matches, weights, threads), k_used
