"""How much memory a process may still take: of the machine, of its control group, of what SLURM gave its job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

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
    return min(limits)


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
