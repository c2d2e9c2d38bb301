"""Control groups of Linux that limit the memory of a process, of version 1 or 2."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
CLOSE_SECONDS = 2.0  # the kernel takes a moment to empty the group of an ended process


@dataclass(frozen=True)
class Files:
    """Names of a version's files, and where its groups are made."""

    parent: Path
    limit: str
    swap: str  # limit of memory and swap (version 1) or of swap alone (version 2); absent without swap accounting
    swap_beyond: bool  # whether that limit includes the memory
    events: str  # holds `oom_kill N`


VERSIONS = (
    Files(MOUNT / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", True, "memory.oom_control"),
    Files(MOUNT, "memory.max", "memory.swap.max", False, "memory.events"),
)


@dataclass(frozen=True)
class Group:
    """A group of processes with a limit."""

    path: Path
    files: Files

    def add(self, process: int) -> bool:
        """Move a process into the group; return False if it has ended."""
        try:
            (self.path / "cgroup.procs").write_text(str(process))
        except OSError:
            return False
        return True

    def kills(self) -> int:
        """Count the processes that the kernel has killed at the limit."""
        with suppress(OSError):
            for line in (self.path / self.files.events).read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0

    def close(self) -> None:
        """Remove the group, which must be empty soon."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while True:
            try:
                self.path.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.05)


class MemoryGroups:
    """Maker of groups, each for one process and what it starts.

    Memory that a process used before it was moved into its group does not count; pages of files do, but the kernel
    reclaims them before it kills.
    """

    def __init__(self, files: Files):
        self.files = files

    @classmethod
    def find(cls, versions: tuple[Files, ...] = VERSIONS) -> MemoryGroups | None:
        """Return a maker for the version that this process may use, None where there is none."""
        for files in versions:
            groups = cls(files)
            try:
                groups.make("probe", 2**30).close()
            except OSError:
                continue
            return groups
        return None

    def make(self, name: str, limit: int) -> Group:
        """Make a group with a limit in bytes.

        Raises
        ------
        OSError
            Groups cannot be made here, or have no limit of memory.
        """
        path = self.files.parent / f"spotwise-{os.getpid()}-{name}"
        path.mkdir()
        group = Group(path, self.files)
        try:
            _set(path / self.files.limit, limit)
            if (path / self.files.swap).exists():
                _set(path / self.files.swap, limit if self.files.swap_beyond else 0)
        except OSError:
            group.close()
            raise
        return group


def _set(path: Path, value: int) -> None:
    if not path.exists():  # else it would be made in a plain folder
        raise FileNotFoundError(path)
    path.write_text(str(value))
