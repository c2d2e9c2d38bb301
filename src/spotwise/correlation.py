"""Pearson correlation of many genes in compiled loops that read expression in the order in which it lies in memory.

Compiling takes two seconds on a machine, and loading what was compiled a quarter of a second in a process: only worth
it for tens of millions of values (`spotwise.metrics.pearson_per_gene`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit


def pearson(predicted: np.ndarray, observed: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlate columns in two passes in float64: means, then sums over centred values.

    Squares of float32 values neither vanish nor overflow in float64, so nothing needs scaling.

    Parameters
    ----------
    predicted, observed
        (N, G) float32, row after row in memory, with at least one row.
    threads
        Each takes its share of the columns; a column's value does not depend on it.

    Returns
    -------
    pcc
        (G,) float64; 0.0 for a constant column.
    is_constant
        (G,) bool: one of the two columns holds one value only.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    n_genes = predicted.shape[1]
    pcc, is_constant = np.zeros(n_genes), np.zeros(n_genes, dtype=bool)

    def correlate(first: int, last: int) -> None:
        (p, p_varies), (o, o_varies) = _means(predicted, first, last), _means(observed, first, last)
        for mean, name in ((p, "predicted"), (o, "observed")):
            if not np.isfinite(mean).all():  # as it is if and only if all values are: sums of float32 do not overflow
                raise ValueError(f"{name} holds values that are not finite")
        varies = p_varies & o_varies
        pp, oo, po = _products(predicted, observed, first, last, p, o)
        is_constant[first:last] = ~varies
        pcc[first:last][varies] = np.clip(po[varies] / np.sqrt(pp[varies] * oo[varies]), -1.0, 1.0)

    bounds = np.linspace(0, n_genes, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(correlate, bounds[:-1], bounds[1:]))
    return pcc, is_constant


# Two rows at a time: half as often the sums of all columns go through the caches. Of an odd number of rows, the first
# goes before.


@njit(nogil=True, cache=True)
def _means(values, first, last):
    start, odd = values[0, first:last], len(values) % 2
    total = odd * start.astype(np.float64)
    varies = np.zeros(last - first, dtype=np.bool_)
    for row in range(odd, len(values), 2):
        one, other = values[row, first:last], values[row + 1, first:last]
        for gene in range(last - first):
            total[gene] += np.float64(one[gene]) + np.float64(other[gene])
            varies[gene] |= (one[gene] != start[gene]) | (other[gene] != start[gene])
    return total / len(values), varies


@njit(nogil=True, cache=True)
def _products(predicted, observed, first, last, p_mean, o_mean):
    odd = len(predicted) % 2
    p_start, o_start = predicted[0, first:last] - p_mean, observed[0, first:last] - o_mean
    pp, oo, po = odd * p_start * p_start, odd * o_start * o_start, odd * p_start * o_start
    for row in range(odd, len(predicted), 2):
        p_one, p_other = predicted[row, first:last], predicted[row + 1, first:last]
        o_one, o_other = observed[row, first:last], observed[row + 1, first:last]
        for gene in range(last - first):
            p, p_next = p_one[gene] - p_mean[gene], p_other[gene] - p_mean[gene]
            o, o_next = o_one[gene] - o_mean[gene], o_other[gene] - o_mean[gene]
            pp[gene] += p * p + p_next * p_next
            oo[gene] += o * o + o_next * o_next
            po[gene] += p * o + p_next * o_next
    return pp, oo, po
