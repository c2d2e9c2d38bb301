"""Retrieval from banks that stay on disk: time and memory as the bank grows; and an approximate index beside it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.machine import Machine, available_cores
from benchmarks.retrieval import FULL, Size, embeddings, inputs, product
from benchmarks.table import AtMost, Limit, Row
from benchmarks.timing import ROOT, Ratio, in_turns, peak_memory
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.inference.retrieval import approximately_nearest, average, nearest, unit_rows

K = 50
GROWTH = 10
REPEATS = 2
ROWS_AT_ONCE = 50_000
# an approximate index takes minutes to build at the full size
INDEXED = Size(2_000, 20_000, 256, 500)


def write_bank(folder: Path, size: Size) -> None:
    """``queries.npy``, ``bank.npy`` and ``expression.npy``, written in blocks.

    The expression is a file with holes, which cost no time to write: zeros, but as many bytes to read from memory.
    """
    rng = np.random.default_rng(0)
    queries, some = embeddings(rng, replace(size, bank=min(size.bank, ROWS_AT_ONCE)))
    np.save(folder / "queries.npy", queries)
    bank = np.lib.format.open_memmap(folder / "bank.npy", "w+", np.float32, (size.bank, size.dimensions))
    for start in range(0, size.bank, len(some)):
        block = bank[start : start + len(some)]
        noise = rng.standard_normal((len(block), size.dimensions), dtype=np.float32)
        block[:] = unit_rows(some[: len(block)] + 0.03 * noise)
    np.lib.format.open_memmap(folder / "expression.npy", "w+", np.float32, (size.bank, size.genes))


def mapped(folder: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries in memory; bank and expression mapped from their files."""
    folder = Path(folder)
    return (
        np.load(folder / "queries.npy"),
        np.load(folder / "bank.npy", mmap_mode="r"),
        np.load(folder / "expression.npy", mmap_mode="r"),
    )


def to_measure(folder: str) -> Callable[[], np.ndarray]:
    """Retrieval from the files in ``folder``; for `benchmarks.timing.peak_memory`."""
    given = mapped(folder)
    return lambda: product(*given, K, available_cores())


def rows(machine: Machine) -> list[Row]:
    """Growth of time and memory from 100,000 spots to 1,000,000, and an approximate index."""
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as scratch:
        sizes = [FULL, replace(FULL, bank=GROWTH * FULL.bank)]
        folders = [Path(scratch) / str(size.bank) for size in sizes]
        for folder, size in zip(folders, sizes, strict=True):
            folder.mkdir()
            write_bank(folder, size)
        return [*growth_rows(machine, folders, sizes), *approximate_rows(INDEXED, machine.cores)]


def growth_rows(machine: Machine, folders: list[Path], sizes: list[Size]) -> list[Row]:
    """Time and memory of the larger bank over those of the smaller."""
    few, many = (to_measure(str(folder)) for folder in folders)
    times = in_turns({"few": few, "many": many}, REPEATS, first_round=False)
    slope = Ratio.of(times["many"], times["few"])
    growth = sizes[1].bank / sizes[0].bank
    slope = Ratio(slope.value / growth, slope.low / growth, slope.high / growth, slope.cpu / growth)
    peaks = [peak_memory("benchmarks.large_bank", "to_measure", folder) for folder in folders]
    memory = peaks[1][1] / peaks[0][1]
    size = sizes[1]
    flops = 2 * size.queries * size.bank * size.dimensions
    n_bytes = 4 * size.queries * K * size.genes + 4 * size.bank * size.dimensions
    work = f"the same, K {K}, bank of {size.bank:,} against {sizes[0].bank:,} spots, both mapped from files"
    return [
        Row(
            work,
            f"time per bank spot / that of the smaller bank ({growth:g}x the spots)",
            slope,
            AtMost(1.2),
            Limit(
                f"{flops / 1e9:.0f} Gflop, {n_bytes / 1e9:.1f} GB",
                machine.seconds(flops, n_bytes),
                times["many"].median,
            ),
        ),
        Row(
            work,
            "peak memory / that of the smaller bank",
            Ratio(memory, memory, memory),
            AtMost(1.5),
            note=f"{peaks[1][1] / 2**20:.0f} MiB against {peaks[0][1] / 2**20:.0f} MiB; mapped pages left out",
        ),
    ]


def approximate_rows(size: Size, cores: int) -> list[Row]:
    """Speed, recall and what it does to the PCC of an approximate index, which spotwise uses only when asked."""
    queries, bank, expression = inputs(size)
    truth = unit_rows(queries) @ np.linalg.lstsq(bank, expression, rcond=None)[0]
    began = time.perf_counter()
    search = approximately_nearest(bank, cores)
    built = time.perf_counter() - began
    times = in_turns(
        {"exact": lambda: nearest(queries, bank, K, cores), "approximate": lambda: search(queries, K)}, REPEATS
    )
    exact, found = nearest(queries, bank, K), search(queries, K)
    recall = float(np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]))
    pcc = [pearson_per_gene(average(expression, matches), truth)[0].mean() for matches in (exact, found)]
    work = f"an approximate index (pynndescent, an option), {size.queries:,} queries x {size.bank:,} spots, K {K}"
    change = float(pcc[1] - pcc[0])
    return [
        Row(
            work,
            "time of the exact search / time of the index",
            Ratio.of(times["exact"], times["approximate"]),
            note=f"building it took {built:.0f} s, {built / times['exact'].median:.0f} exact searches",
        ),
        Row(work, f"recall at {K}", Ratio(recall, recall, recall)),
        Row(work, "change in mean PCC", Ratio(change, change, change), note=f"from {pcc[0]:.4f}"),
    ]
