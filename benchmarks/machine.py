"""Speed and load of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LIBRARIES = (
    "numpy", "scipy", "scanpy", "anndata", "h5py", "openslide-python", "pillow", "imagecodecs", "torch",
)  # fmt: skip
PRODUCT_EDGE = 3072
STREAM_BYTES = 256 * 2**20
TRIES = 7


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Machine:
    """Rates of the machine with all its cores, measured in the same run as the table.

    Attributes
    ----------
    cores
        That this process may use.
    flops
        Of a float32 matrix product, per second.
    bandwidth
        Bytes read and written per second by copying arrays that fit no cache.
    load
        Mean number of running processes of the minute before the benchmarks began.
    """

    cores: int
    flops: float
    bandwidth: float
    load: float

    @classmethod
    def measure(cls) -> Machine:
        """Measure the rates, each as the best of several tries."""
        cores, load = available_cores(), os.getloadavg()[0]
        a = np.ones((PRODUCT_EDGE, PRODUCT_EDGE), dtype=np.float32)
        result = np.empty_like(a)
        flops = 2 * PRODUCT_EDGE**3 / _best(lambda: np.matmul(a, a, out=result))
        pairs = [(np.ones(STREAM_BYTES, np.uint8), np.empty(STREAM_BYTES, np.uint8)) for _ in range(cores)]
        with ThreadPoolExecutor(cores) as pool:
            copying = _best(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)))
        return cls(cores, flops, 2 * cores * STREAM_BYTES / copying, load)

    @property
    def is_contended(self) -> bool:
        """Whether other processes ran."""
        return self.load > 0.5

    def seconds(self, flops: float = 0, n_bytes: float = 0) -> float:
        """Return the least time for a number of operations followed by a number of bytes."""
        return flops / self.flops + n_bytes / self.bandwidth

    def describe(self) -> str:
        """Describe processor, rates and versions as Markdown."""
        rates = f"{self.flops / 1e9:.0f} Gflop/s (float32 matrix product), {self.bandwidth / 1e9:.1f} GB/s (copying)"
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
        lines = [
            f"* {_processor()}, {self.cores} cores, {platform.system()} {platform.machine()}; {rates}.",
            f"* Python {platform.python_version()}, {versions}.",
            f"* Load before the start: {self.load:.1f}.",
        ]
        if self.is_contended:
            lines.append(
                "* **Other processes ran on this machine: times are noisy, and threads gain less than they do alone.**"
            )
        return "\n".join(lines)


def _best(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIES):
        before = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - before)
    return min(seconds)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
