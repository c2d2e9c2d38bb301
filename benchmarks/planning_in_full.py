"""Benchmark of planning up to a thousand slides; not part of `make bench`, as it takes a quarter of an hour."""

from __future__ import annotations

from benchmarks.machine import Machine
from benchmarks.planning import rows_of_growth
from benchmarks.table import Row

SLIDES = (125, 250, 500, 1000)


def rows(machine: Machine) -> list[Row]:
    """Measure the rows of `benchmarks.planning` at full size, once."""
    return rows_of_growth(SLIDES, 1)
