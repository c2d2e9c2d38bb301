"""Benchmark of retrieval from banks on disk: time and memory as the bank grows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.machine import Machine, available_cores
from benchmarks.retrieval import FULL, Size, embeddings, product
from benchmarks.table import AtMost, Limit, Row
from benchmarks.timing import ROOT, Ratio, in_turns, peak_memory
from spotwise.models.similarity_search import unit_rows

K = 50
GROWTH = 10
REPEATS = 2
ROWS_AT_ONCE = 50_000


def write_bank(folder: Path, size: Size) -> None:
    """Write ``queries.npy``, ``bank.npy`` and ``expression.npy``.

    The expression is a sparse file of zeros, which takes no time to write and as long to read as any other.
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
    """Load the queries, and map bank and expression from their files."""
    folder = Path(folder)
    return (
        np.load(folder / "queries.npy"),
        np.load(folder / "bank.npy", mmap_mode="r"),
        np.load(folder / "expression.npy", mmap_mode="r"),
    )


def to_measure(folder: str) -> Callable[[], np.ndarray]:
    """Prepare retrieval from the files in a folder for `benchmarks.timing.peak_memory`."""
    given = mapped(folder)
    return lambda: product(*given, K, available_cores())


def rows(machine: Machine) -> list[Row]:
    """Measure the growth of time and memory from 100,000 spots to 1,000,000."""
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as scratch:
        sizes = [FULL, replace(FULL, bank=GROWTH * FULL.bank)]
        folders = [Path(scratch) / str(size.bank) for size in sizes]
        for folder, size in zip(folders, sizes, strict=True):
            folder.mkdir()
            write_bank(folder, size)
        return growth_rows(machine, folders, sizes)


def growth_rows(machine: Machine, folders: list[Path], sizes: list[Size]) -> list[Row]:
    """Compare time and memory of the larger bank with those of the smaller."""
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
