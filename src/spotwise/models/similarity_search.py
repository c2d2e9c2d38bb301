"""Exact search for the most similar rows of a bank, and the mean expression of the matches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import scipy  # imports subpackages on first use
from threadpoolctl import threadpool_limits

BLOCK_BYTES = 40 * 2**20  # of similarities held at once
QUERIES_AT_ONCE = 2500  # per matrix product; BLAS is slower with fewer


def unit_rows(embedding: np.ndarray) -> np.ndarray:
    """Scale the rows of (N, D) to length 1, float32, but leave zero rows."""
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.divide(embedding, length, out=np.zeros_like(embedding, dtype=np.float32), where=length > 0)


def nearest(queries: np.ndarray, bank: np.ndarray, k: int, threads: int = 1) -> np.ndarray:
    """Find the exact ``k`` most similar rows of ``bank`` for each query.

    The bank is read once, in blocks, and only the best rows so far are kept. Time grows with the bank, memory does not.

    Parameters
    ----------
    queries, bank
        (Q, D) and (M, D), L2-normalised, float32. The bank may be mapped from a file.
    k
        Number of matches, at most M.
    threads
        Threads that share the queries. The result does not depend on it.

    Returns
    -------
    ndarray
        (Q, k) int64, ascending by row. Among equal similarities the lower rows are taken, so that the result does not
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
            list(pool.map(lambda part, block=block, first=rows.start: part.add(block, first), parts))
    return np.concatenate([part.rows() for part in parts])


class BestRows:
    """The ``k`` most similar of all bank rows added so far, for some queries.

    Rows that beat a query's k-th best are candidates until a query has 2k of them; then all are merged. Blocks arrive
    in the order of the bank, so a row that only equals the k-th best is not taken.
    """

    def __init__(self, queries: np.ndarray, k: int):
        self.queries = queries
        self.k = k
        self.similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        self.row = np.zeros((len(queries), k), dtype=np.int64)
        self._clear_candidates()

    def _clear_candidates(self) -> None:
        self.kth_best = self.similarity.min(axis=1, keepdims=True)
        self.candidates: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.n_candidates = np.zeros(len(self.queries), dtype=np.int64)

    def add(self, block: np.ndarray, first: int) -> None:
        """Add the next rows of the bank, (B, D), which begin at row ``first``."""
        similarity = self.queries @ block.T
        if first == 0 and len(block) >= self.k:
            self.row = top_columns(similarity, self.k)
            self.similarity = np.take_along_axis(similarity, self.row, axis=1)
            self._clear_candidates()
            return
        at = np.flatnonzero(similarity > self.kth_best)
        query, column = np.divmod(at, len(block))
        self.candidates.append((query.astype(np.uint16), column + first, similarity.ravel()[at]))
        self.n_candidates += np.bincount(query, minlength=len(self.queries))
        if self.n_candidates.max(initial=0) >= 2 * self.k:
            self._merge()

    def _merge(self) -> None:
        """Keep the best of the rows so far and the candidates, in ascending order of rows."""
        query, row, similarity = (np.concatenate(part) for part in zip(*self.candidates, strict=True))
        order = np.argsort(query, kind="stable")  # a radix sort for 16 bits
        query = query[order]
        place = np.arange(self.k, self.k + len(query)) - (np.cumsum(self.n_candidates) - self.n_candidates)[query]
        width = self.k + self.n_candidates.max()
        all_similarity = np.full((len(self.queries), width), -np.inf, dtype=np.float32)
        all_rows = np.zeros((len(self.queries), width), dtype=np.int64)
        all_similarity[:, : self.k], all_rows[:, : self.k] = self.similarity, self.row
        all_similarity[query, place], all_rows[query, place] = similarity[order], row[order]
        best = top_columns(all_similarity, self.k)
        self.similarity, self.row = (np.take_along_axis(each, best, axis=1) for each in (all_similarity, all_rows))
        self._clear_candidates()

    def rows(self) -> np.ndarray:
        """Return the best rows (Q, k) int64, ascending."""
        if self.candidates:
            self._merge()
        return self.row


def _finite(embedding: np.ndarray) -> np.ndarray:
    if not np.isfinite(embedding).all():
        raise ValueError("embeddings that are not finite")
    return embedding


def _parts(n: int, at_most: int, multiple: int = 1) -> list[slice]:
    """Split ``n`` rows into consecutive slices of equal size, plus or minus one row.

    Their number is a ``multiple`` where ``n`` allows. Equal sizes matter, as a product with a few rows left over sums
    in another order than the others.
    """
    parts = -(-n // max(1, at_most))
    parts = min(n, -(-parts // multiple) * multiple)
    borders = [n * part // parts for part in range(parts + 1)] if n else [0, 0]
    return [slice(start, stop) for start, stop in pairwise(borders)]


def top_columns(similarity: np.ndarray, k: int) -> np.ndarray:
    """Return the columns (N, k) of each row's largest values, ascending, ties to the lower."""
    threshold = np.partition(similarity, -k, axis=1)[:, -k, None]
    chosen = similarity >= threshold
    tied = np.flatnonzero(np.count_nonzero(chosen, axis=1) > k)
    if len(tied):
        level = similarity[tied] == threshold[tied]
        wanted = k - np.count_nonzero(similarity[tied] > threshold[tied], axis=1)
        chosen[tied] &= ~level | (np.cumsum(level, axis=1) <= wanted[:, None])
    return (np.flatnonzero(chosen) % similarity.shape[1]).reshape(len(similarity), k)


def average(
    expression: np.ndarray, matches: np.ndarray, weights: np.ndarray | None = None, threads: int = 1
) -> np.ndarray:
    """Average the expression of each query's matches.

    Parameters
    ----------
    expression
        (M, G) expression of the bank, which may be mapped from a file.
    matches, weights
        (Q, k) rows of the bank, and weights that sum to 1 per query; equal ones by default.
    threads
        Threads that share the queries.

    Returns
    -------
    ndarray
        (Q, G) float32.
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
