"""Free memory of a process, and arrays on disk for data that exceed it."""

from __future__ import annotations

import logging
import math
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike

from spotwise.errors import SetupError
from spotwise.runtime.gpu_locks import lock_folder

logger = logging.getLogger(__name__)


class Free(NamedTuple):
    """Free bytes, and the resource that limits them."""

    bytes: int
    of: str


def free_host(
    proc: Path = Path("/proc"),
    control_groups: Path = Path("/sys/fs/cgroup"),
    environment: Mapping[str, str] = os.environ,
) -> Free:
    """Return the tightest limit on memory, with reclaimable file cache as free."""
    limits = [Free(_kib(proc / "meminfo")["MemAvailable"], "the machine's memory")]
    limits += _of_control_groups(proc, control_groups)
    limits += _of_slurm(proc, environment)
    limits += _of_the_process(proc)
    return min(limits)


@contextmanager
def alone() -> Iterator[None]:
    """Let one process of this user at a time measure the free memory and take it.

    What the body takes must be written to before it ends, because memory that was never written to still counts as
    free. The kernel releases the lock when the process ends, even when it is killed.
    """
    lock = FileLock(lock_folder("memory") / "host.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting until another job has taken its memory")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def mapped(shape: tuple[int, ...], dtype: DTypeLike, scratch: Path | None, what: str, remedy: str) -> np.ndarray:
    """Create a writable array in an unnamed, memory-mapped file.

    Parameters
    ----------
    shape, dtype
        Of the array, with at least one value.
    scratch
        Folder of the file, by default the system's temporary folder.
    what, remedy
        Content of the array and alternative to it, for the `SetupError` on a full disk.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # writing to a mapped file on a full disk kills the process
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        where = f"{scratch or tempfile.gettempdir()}: {error.strerror}"
        raise SetupError(f"{where}: too little space for {size / 1e9:.2f} GB of {what}; {remedy}") from error


def _kib(path: Path) -> dict[str, int]:
    """Read bytes by name from a file in /proc with lines like ``MemAvailable:  1234 kB``."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0].rstrip(":"): 1024 * int(row[1]) for row in rows if row[-1] == "kB"}


def _of_control_groups(proc: Path, mounted: Path) -> Iterator[Free]:
    """Yield what the process's control group and its parents leave, for both versions of control groups."""
    for line in (proc / "self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, limit, usage, cache = mounted, "memory.max", "memory.current", ("active_file", "inactive_file")
        elif "memory" in controllers.split(","):
            root, limit, usage = mounted / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = ("total_active_file", "total_inactive_file")
        else:
            continue
        folder = root / group.lstrip("/")
        for level in (folder, *folder.parents):
            most = level / limit
            if not level.is_relative_to(root):
                break
            if most.is_file() and (text := most.read_text(encoding="utf-8").strip()) != "max":
                rows = (row.split() for row in (level / "memory.stat").read_text(encoding="utf-8").splitlines())
                cached = sum(int(value) for name, value in rows if name in cache)
                used = int((level / usage).read_text(encoding="utf-8")) - cached
                yield Free(max(0, int(text) - used), f"the control group {level.relative_to(root)}")


def _of_slurm(proc: Path, environment: Mapping[str, str]) -> Iterator[Free]:
    """Yield what is left of a SLURM job's memory, for clusters that enforce it without control groups."""
    per_cpu, cpus = int(environment.get("SLURM_MEM_PER_CPU", 0)), int(environment.get("SLURM_CPUS_ON_NODE", 1))
    megabytes = int(environment.get("SLURM_MEM_PER_NODE", 0)) or per_cpu * cpus
    if megabytes:
        used = _kib(proc / "self/status")["VmRSS"]
        yield Free(max(0, 2**20 * megabytes - used), "SLURM's allocation")


def _of_the_process(proc: Path) -> Iterator[Free]:
    """Yield what ``ulimit -v``, which includes mapped files, and ``ulimit -d`` leave."""
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            yield Free(max(0, most - _kib(proc / "self/status")[name]), "the process's limit")
