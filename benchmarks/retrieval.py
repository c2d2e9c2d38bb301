"""Benchmark of retrieval from a bank of 100,000 spots: search and mean expression of the matches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from benchmarks.machine import Machine, available_cores
from benchmarks.table import AtLeast, AtMost, Limit, Row
from benchmarks.timing import Ratio, in_turns, peak_memory, total
from spotwise.models.similarity_search import average, nearest, unit_rows

KS = (50, 500)
REPEATS = 3
CLUSTERS, INNER = 60, 24  # the embeddings: kinds of tissue, and the dimensions in which they differ
PRODUCT_BLOCK = (2500, 2048)  # queries x spots, the fastest that was found


@dataclass(frozen=True)
class Size:
    """How many queries, bank spots, embedding dimensions and genes."""

    queries: int
    bank: int
    dimensions: int
    genes: int


FULL = Size(5_000, 100_000, 256, 3_500)


def embeddings(rng: np.random.Generator, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit vectors of queries and bank around common centres, like those of tissue types."""
    axes = rng.normal(size=(INNER, size.dimensions)).astype(np.float32)
    centres = rng.normal(size=(CLUSTERS, INNER)).astype(np.float32)

    def some(n: int) -> np.ndarray:
        inner = centres[rng.integers(0, CLUSTERS, n)] + 0.6 * rng.standard_normal((n, INNER), dtype=np.float32)
        return unit_rows(inner @ axes + 1.5 * rng.standard_normal((n, size.dimensions), dtype=np.float32))

    return some(size.queries), some(size.bank)


def inputs(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw unit queries and bank, and an expression of the bank that depends on its embeddings."""
    rng = np.random.default_rng(0)
    queries, bank = embeddings(rng, size)
    loadings = rng.standard_normal((size.dimensions, size.genes), dtype=np.float32)
    expression = bank @ loadings
    np.maximum(expression, 0, out=expression)
    return queries, bank, expression


def published(queries: np.ndarray, bank: np.ndarray, expression: np.ndarray, k: int) -> np.ndarray:
    """Predict as BLEEP and CMRCNet publish it: all similarities at once, top k, a loop over queries."""
    import torch

    similarity = torch.from_numpy(queries) @ torch.from_numpy(bank).T
    indices = torch.topk(similarity, k).indices.numpy()
    predicted = np.zeros((len(queries), expression.shape[1]))
    for query in range(len(queries)):
        predicted[query] = np.average(expression[indices[query]], axis=0)
    return predicted


def product(queries: np.ndarray, bank: np.ndarray, expression: np.ndarray, k: int, threads: int = 1) -> np.ndarray:
    """Predict as spotwise does."""
    return average(expression, nearest(queries, bank, k, threads), threads=threads)


def bare_product(queries: np.ndarray, bank: np.ndarray) -> None:
    """Compute all similarities in blocks, the lower limit of an exact search."""
    n, m = PRODUCT_BLOCK
    similarity = np.empty(PRODUCT_BLOCK, dtype=np.float32)
    for first in range(0, len(queries), n):
        some = queries[first : first + n]
        for start in range(0, len(bank), m):
            block = bank[start : start + m]
            np.matmul(some, block.T, out=similarity[: len(some), : len(block)])


def gather(expression: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Sum each query's matches in one pass, as a sparse matrix of ones times the expression."""
    n, k = matches.shape
    ones = csr_array((np.ones(n * k, np.float32), matches.ravel(), np.arange(0, n * k + 1, k)), (n, len(expression)))
    return ones @ expression


def to_measure(side: str, k: str) -> Callable[[], np.ndarray]:
    """Prepare one side of the comparison for `benchmarks.timing.peak_memory`."""
    given = inputs(FULL)
    if side == "published":
        import torch  # noqa: F401  (its own memory is no part of the method)

        return lambda: published(*given, int(k))
    return lambda: product(*given, int(k), available_cores())


def rows(machine: Machine) -> list[Row]:
    """Measure time against the published way and against product and gather alone, and memory."""
    return [row for k in KS for row in rows_of_k(machine, FULL, k)] + [memory_row()]


def rows_of_k(machine: Machine, size: Size, k: int) -> list[Row]:
    """Measure one K."""
    queries, bank, expression = inputs(size)
    matches = nearest(queries, bank, k, machine.cores)
    times = in_turns(
        {
            "product": lambda: product(queries, bank, expression, k, machine.cores),
            "bare": lambda: bare_product(queries, bank),
            "gather": lambda: gather(expression, matches),
            "published": lambda: published(queries, bank, expression, k),
        },
        REPEATS,
        first_round=False,
    )
    work = f"retrieval, {size.queries:,} queries x {size.bank:,} spots x {size.dimensions}, {size.genes:,} genes, K {k}"
    flops = 2 * size.queries * size.bank * size.dimensions
    gathered = 4 * size.queries * k * size.genes
    limit = Limit(
        f"{flops / 1e9:.0f} Gflop, {gathered / 1e9:.1f} GB gathered",
        machine.seconds(flops, gathered),
        times["product"].median,
    )
    seconds = {name: f"{time.median:.1f} s" for name, time in times.items()}
    return [
        Row(
            work,
            "time / (bare matrix product + one gather by scipy)",
            Ratio.of(times["product"], total(times["bare"], times["gather"])),
            AtMost(1.5),
            limit,
        ),
        Row(
            work,
            "published way / time",
            Ratio.of(times["published"], times["product"]),
            AtLeast(1 if k < 500 else 2),
            note=f"{seconds['published']} against {seconds['product']}; both multiply and gather: the bare product "
            f"takes {seconds['bare']} on all cores, the gather {seconds['gather']} on one",
        ),
    ]


def memory_row() -> Row:
    """Measure peak memory without the inputs against the published way."""
    peaks = [peak_memory("benchmarks.retrieval", "to_measure", side, KS[0]) for side in ("product", "published")]
    ours, theirs = (peak - before for before, peak in peaks)
    share = ours / theirs
    return Row(
        f"memory of the same, K {KS[0]}",
        "peak beside the inputs / that of the published way",
        Ratio(share, share, share),
        AtMost(0.1),
        note=f"{ours / 2**20:.0f} MiB against {theirs / 2**20:.0f} MiB",
    )
