"""Locks that give each GPU of a machine to one job at a time.

Snakemake counts GPUs but does not say which one a job gets, and it knows nothing of other runs on the same machine.
Every job that computes on a GPU therefore locks the first free one among those visible to it. The kernel releases the
lock when the process ends, even when it is killed.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from spotwise.errors import SetupError

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0
REMIND_SECONDS = 600
HOLDER_SUFFIX = ".holder"  # of the file beside a lock that names its holder
NVIDIA_SMI_LINE = re.compile(r"^\s*(?P<kind>GPU|MIG) .*\(UUID: (?P<uuid>\S+)\)")

_lock: FileLock | None = None  # of this process, released when it ends


def allocate() -> str | None:
    """Lock a GPU for this process and hide the others from CUDA.

    Waits until one of the GPUs in ``CUDA_VISIBLE_DEVICES``, through which SLURM assigns them to jobs, is free. Returns
    the new value of the variable, ``None`` where no GPU is visible. Call it before anything initialises CUDA.

    GPUs are named by UUID where ``nvidia-smi`` reports it: CUDA and the driver number them differently, and SLURM may
    show each of two jobs its own GPU as number 0.
    """
    global _lock
    if _lock is not None:
        return os.environ[VISIBLE]
    candidates = visible_gpus(installed_gpus(), os.environ.get(VISIBLE))
    if not candidates:
        return None
    os.environ[VISIBLE], _lock = _lock_first_free(candidates)
    return os.environ[VISIBLE]


def installed_gpus() -> list[list[str]]:
    """List the UUIDs of each GPU, one per part of a divided GPU (MIG), in the driver's order.

    Read from ``nvidia-smi``, because torch fixes the visible GPUs when it is first queried; empty without it.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    gpus: list[list[str]] = []
    for match in filter(None, map(NVIDIA_SMI_LINE.match, listed.stdout.splitlines())):
        if match["kind"] == "GPU":
            gpus.append([match["uuid"]])
        elif gpus[-1][0].startswith("GPU-"):
            gpus[-1] = [match["uuid"]]
        else:
            gpus[-1].append(match["uuid"])
    return gpus


def visible_gpus(installed: list[list[str]], variable: str | None) -> dict[str, str]:
    """Map the GPUs in ``CUDA_VISIBLE_DEVICES`` to the names of their locks.

    ``variable`` holds indices, UUIDs or prefixes of UUIDs, separated by commas, or is ``None`` if unset. As for CUDA,
    the list ends before the first entry that is no GPU.
    """
    parts = [uuid for gpu in installed for uuid in gpu]
    if variable is None:
        return {uuid: uuid for uuid in parts}
    visible: dict[str, str] = {}
    for name in map(str.strip, variable.split(",")):
        if not installed:  # no nvidia-smi, so the entries cannot be checked
            found = [name] if re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) else []
        elif name.isdecimal():
            found = installed[int(name)][:1] if int(name) < len(installed) else []
        else:
            found = [uuid for uuid in parts if name and uuid.startswith(name)]
        if len(found) != 1:
            break
        visible[name] = found[0]
    return visible


def lock_folder(name: str) -> Path:
    """Return this user's folder of some locks, on a local disk, as locks on network file systems are unreliable.

    Raises
    ------
    SetupError
        Another user owns the folder.
    """
    own = Path(tempfile.gettempdir()) / f"spotwise-{os.getuid()}"
    for path in (own, own / name):
        path.mkdir(mode=0o700, exist_ok=True)
        if path.stat().st_uid != os.getuid():
            raise SetupError(f"{path}: belongs to another user; remove it, or set TMPDIR to a folder of yours")
    return own / name


def _lock_first_free(candidates: dict[str, str]) -> tuple[str, FileLock]:
    folder = lock_folder("gpus")
    locks = {name: FileLock(folder / f"{uuid.replace('/', '_')}.lock") for name, uuid in candidates.items()}
    reminded = -math.inf
    while True:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            write_holder(lock)
            logger.info("GPU %s locked (%s)", name, candidates[name])
            return candidates[name], lock
        if time.monotonic() - reminded >= REMIND_SECONDS:
            reminded = time.monotonic()
            holders = "; ".join(map(describe_holder, locks.values()))
            logger.warning("all %d GPUs visible to this job are in use (%s): waiting for one", len(locks), holders)
        time.sleep(POLL_SECONDS)


def write_holder(lock: FileLock) -> None:
    """Write process, host and time beside the file of a lock that this process holds."""
    since = datetime.now().isoformat(timespec="seconds")
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
    Path(lock.lock_file + HOLDER_SUFFIX).write_text(holder, encoding="utf-8")


def describe_holder(lock: FileLock) -> str:
    """Return who holds a lock, such as ``process 123 on host, since 2026-01-31T12:00:00``."""
    holder = ""
    with suppress(OSError):
        holder = Path(lock.lock_file + HOLDER_SUFFIX).read_text(encoding="utf-8")
    return holder or "a process that has just started"
