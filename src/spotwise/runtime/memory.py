"""How much memory a process may still take, and room for arrays that are larger than that."""

from __future__ import annotations

import math
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from spotwise.errors import SetupError

PROC, CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


class Free(NamedTuple):
    """Bytes that are free, and what they are free of."""

    bytes: int
    of: str


def free_host(
    proc: Path = PROC, control_groups: Path = CONTROL_GROUPS, environment: Mapping[str, str] = os.environ
) -> Free:
    """The tightest of the limits on this process's memory; none of them counts file cache, which gives way."""
    limits = [Free(_kib(proc / "meminfo")["MemAvailable"], "the machine's memory")]
    limits += _of_control_groups(proc, control_groups)
    limits += _of_slurm(proc, environment)
    limits += _of_the_process(proc)
    return min(limits)


def mapped(shape: tuple[int, ...], dtype: DTypeLike, scratch: Path | None, what: str, remedy: str) -> np.ndarray:
    """A writable array in a file mapped into memory, which has no name and whose room on the disk is taken at once.

    Parameters
    ----------
    shape, dtype
        Of the array; it holds one value at least.
    scratch
        Folder of the file; the system's temporary one by default.
    what, remedy
        What it is for and what else would help, for the error.

    Raises
    ------
    SetupError
        The disk has not that much room.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk under a mapped file would kill the process
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise SetupError(
            f"{scratch or tempfile.gettempdir()}: {error.strerror}: no room for {size / 1e9:.2f} GB of {what} outside "
            f"memory; {remedy}"
        ) from error


def _kib(path: Path) -> dict[str, int]:
    """Bytes by name, of a file of /proc with lines like ``MemAvailable:  1234 kB``."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0].rstrip(":"): 1024 * int(row[1]) for row in rows if row[-1] == "kB"}


def _of_control_groups(proc: Path, mounted: Path) -> Iterator[Free]:
    """What the process's group and the groups around it leave it, in either version of Linux's control groups."""
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
    """What is left of a SLURM job's memory, for clusters that kill a job for it instead of confining it."""
    megabytes = int(environment.get("SLURM_MEM_PER_NODE", 0)) or int(environment.get("SLURM_MEM_PER_CPU", 0)) * int(
        environment.get("SLURM_CPUS_ON_NODE", 1)
    )
    if megabytes:
        held = _kib(proc / "self/status")["VmRSS"]
        yield Free(max(0, 2**20 * megabytes - held), "SLURM's allocation")


def _of_the_process(proc: Path) -> Iterator[Free]:
    """What ``ulimit -v`` and ``ulimit -d`` leave; mapped files count for the first, not for the second."""
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            yield Free(max(0, most - _kib(proc / "self/status")[name]), "the process's limit")
