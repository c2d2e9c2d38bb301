"""Table of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.machine import Machine
from benchmarks.timing import Ratio


@dataclass(frozen=True)
class AtMost:
    """Upper bound of a number."""

    bound: float

    def met(self, value: float) -> bool:
        """Return whether ``value`` meets it."""
        return value <= self.bound

    def __str__(self) -> str:
        return f"≤ {self.bound:g}"


@dataclass(frozen=True)
class AtLeast:
    """Lower bound of a number."""

    bound: float

    def met(self, value: float) -> bool:
        """Return whether ``value`` meets it."""
        return value >= self.bound

    def __str__(self) -> str:
        return f"≥ {self.bound:g}"


@dataclass(frozen=True)
class Limit:
    """Lower limit of the time on this machine, and the time taken.

    Attributes
    ----------
    reason
        Bytes and operations that determine the limit.
    least, took
        Seconds.
    """

    reason: str
    least: float
    took: float

    def __str__(self) -> str:
        return f"{self.reason}: {self.least:.2g} s; took {self.took:.2g} s, {self.took / self.least:.1f}x"


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes
    ----------
    work
        What is measured; rows of the same work stand together.
    number
        Meaning of the number.
    ratio
        The number; nan where nothing could be measured.
    target
        Bound that it should meet, if any.
    limit
        Lower limit of the work, in one row of each work.
    note
        Explanation, above all of why a target is missed and what would meet it.
    """

    work: str
    number: str
    ratio: Ratio
    target: AtMost | AtLeast | None = None
    limit: Limit | None = None
    note: str = ""

    def verdict(self) -> str:
        """Return whether the target is met, and if not by how much it is missed."""
        if self.target is None:
            return ""
        if math.isnan(self.ratio.value):
            return "not measured"
        if self.target.met(self.ratio.value):
            return "met"
        apart = self.ratio.value / self.target.bound
        return f"**missed**, {max(apart, 1 / apart):.2f}x off"

    def cells(self) -> list[str]:
        """Return the row's cells as text, without its work."""
        ratio = self.ratio
        spread = "" if ratio.low == ratio.high or math.isnan(ratio.value) else f"{ratio.low:.3g}-{ratio.high:.3g}"
        cpu = "" if math.isnan(ratio.cpu) else f"{ratio.cpu:.3g}"
        target = "" if self.target is None else str(self.target)
        return [
            self.number,
            "" if math.isnan(ratio.value) else f"{ratio.value:.3g}",
            spread,
            cpu,
            target,
            self.verdict(),
            str(self.limit or ""),
            self.note,
        ]


HEADER = ["work", "number", "median", "spread", "in CPU time", "target", "", "limit", "note"]


def markdown(machine: Machine, rows: Sequence[Row], seconds: float) -> str:
    """Format the machine and the rows as ``RESULTS.md``."""
    lines = [HEADER, ["---"] * len(HEADER)]
    before = None
    for row in rows:
        lines.append([row.work if row.work != before else "", *row.cells()])
        before = row.work
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return INTRODUCTION + f"\n{machine.describe()}\n* Measured in {seconds / 60:.1f} minutes.\n\n{table}\n"


INTRODUCTION = """# What spotwise costs

Written by `make bench`. The references are in `benchmarks/`; `tests/benchmarks/` tests that they agree with spotwise.
Each ratio is the median over repeats in which the two sides ran in turns; the spread is from the least to the greatest.
"In CPU time" is the same ratio in CPU seconds of all threads, which other processes disturb less. A limit is the time
for the bytes and operations of the work at the rates measured here.
"""
