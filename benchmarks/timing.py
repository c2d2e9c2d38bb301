"""Time and peak memory of functions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
SAMPLE_EVERY_S = 0.005


@dataclass(frozen=True)
class Times:
    """Wall and CPU seconds of repeated runs; CPU time adds up over threads."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of wall seconds."""
        return median(self.wall)


@dataclass(frozen=True)
class Ratio:
    """Ratio of two times.

    Attributes
    ----------
    value, low, high
        Median, least and greatest over the repeats; each repeat compares two consecutive runs.
    cpu
        Ratio of the median CPU times; nan where it means nothing.
    """

    value: float
    low: float
    high: float
    cpu: float = float("nan")

    @classmethod
    def of(cls, above: Times, below: Times) -> Ratio:
        """Divide times that were measured in turns."""
        wall = [a / b for a, b in zip(above.wall, below.wall, strict=True)]
        return cls(median(wall), min(wall), max(wall), median(above.cpu) / median(below.cpu))


def in_turns(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    first_round: bool = True,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Run the functions in turns, so that other load on the machine affects all of them.

    The calls of ``before`` are not timed. A first round that fills caches and compiles code is not counted;
    ``first_round=False`` omits it.
    """
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(-first_round, repeats):
        for name, function in functions.items():
            before()
            wall_before, cpu_before = time.perf_counter(), time.process_time()
            function()
            if repeat >= 0:
                wall[name].append(time.perf_counter() - wall_before)
                cpu[name].append(time.process_time() - cpu_before)
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in functions}


def total(*times: Times) -> Times:
    """Add up times of consecutive work."""
    return Times(
        tuple(map(sum, zip(*(each.wall for each in times), strict=True))),
        tuple(map(sum, zip(*(each.cpu for each in times), strict=True))),
    )


def peak_memory(module: str, function: str, *arguments: object) -> tuple[int, int]:
    """Measure the memory of a function in a new process.

    Parameters
    ----------
    module, function, arguments
        ``module.function(*arguments)`` makes the inputs and returns the function to measure. Arguments are passed as
        text.

    Returns
    -------
    before, peak
        Bytes with the inputs ready, and their maximum while the function runs. Pages of mapped files are not counted,
        as the kernel can reclaim them.
    """
    command = [sys.executable, "-m", "benchmarks.timing", module, function, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    before, peak = done.stdout.split()[-2:]
    return int(before), int(peak)


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise OSError("no RssAnon in /proc/self/status: peak memory is measured on Linux only")


def _watch(run: Callable[[], object]) -> tuple[int, int]:
    before = _anonymous_bytes()
    peak = before
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_EVERY_S):
            peak = max(peak, _anonymous_bytes())

    watcher = threading.Thread(target=sample)
    watcher.start()
    kept = run()
    done.set()
    watcher.join()
    peak = max(peak, _anonymous_bytes())
    del kept
    return before, peak


if __name__ == "__main__":
    _module, _function, *_arguments = sys.argv[1:]
    print(*_watch(getattr(import_module(_module), _function)(*_arguments)))
