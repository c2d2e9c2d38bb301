"""GPUs shared out among the jobs of a machine: one job per GPU, by a file lock that lasts as long as its process.

Snakemake counts GPUs but does not say which one a job gets, and its jobs know nothing of another run on the same
machine. So every job that computes on a GPU takes the first free one of those it may see. The kernel drops the lock of
a process that ends, however it ends: a killed job leaves its GPU free.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from spotwise.errors import SetupError

logger = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0
REMIND_SECONDS = 600
SIGNED = ".holder"  # suffix of the file beside a lock that names its holder
LISTED = re.compile(r"^\s*(?P<kind>GPU|MIG) .*\(UUID: (?P<uuid>\S+)\)")

_held: FileLock | None = None  # of this process; released when it ends


def take_gpu() -> str | None:
    """Lease a GPU for the rest of this process and make it the only one that CUDA sees; wait until there is one.

    Call it before anything initialises CUDA. What ``CUDA_VISIBLE_DEVICES`` names, by index or UUID, is the choice: it
    is how SLURM says which GPUs a job was given. Locks are named by UUID, so that two jobs whose SLURM shows each its
    own GPU as number 0 do not wait for each other.

    Returns
    -------
    The leased GPU as it stands in ``CUDA_VISIBLE_DEVICES`` then, by UUID where the driver tells it, as CUDA counts GPUs
    in another order than the driver; ``None`` where no GPU is visible.
    """
    global _held
    if _held is not None:
        return os.environ[VISIBLE]
    choice = visible_gpus(installed_gpus(), os.environ.get(VISIBLE))
    if not choice:
        return None
    os.environ[VISIBLE], _held = _first_free(choice)
    return os.environ[VISIBLE]


def installed_gpus() -> list[list[str]]:
    """UUIDs of each GPU that the driver shows, in its order: the GPU's own, or those of the parts it is divided into.

    Asked of ``nvidia-smi``, as torch fixes which GPUs it sees when it is asked itself. Without it there are none to
    lease: a container may lack it.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    gpus: list[list[str]] = []
    for match in filter(None, map(LISTED.match, listed.stdout.splitlines())):
        if match["kind"] == "GPU":
            gpus.append([match["uuid"]])
        elif gpus[-1][0].startswith("GPU-"):
            gpus[-1] = [match["uuid"]]
        else:
            gpus[-1].append(match["uuid"])
    return gpus


def visible_gpus(installed: list[list[str]], variable: str | None) -> dict[str, str]:
    """What a job may choose from: the name of each GPU's lock, by the GPU's name in ``CUDA_VISIBLE_DEVICES``.

    Parameters
    ----------
    installed
        As :func:`installed_gpus` returns them.
    variable
        ``CUDA_VISIBLE_DEVICES``: indices, UUIDs or their beginnings, separated by commas; ``None`` where it is not set.
        As CUDA reads it, the list ends before the first name that is no GPU.
    """
    parts = [uuid for gpu in installed for uuid in gpu]
    if variable is None:
        return {uuid: uuid for uuid in parts}
    choice: dict[str, str] = {}
    for name in map(str.strip, variable.split(",")):
        if not installed:  # nothing to compare with: the names have to do
            found = [name] if re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) else []
        elif name.isdecimal():
            found = installed[int(name)][:1] if int(name) < len(installed) else []
        else:
            found = [uuid for uuid in parts if name and uuid.startswith(name)]
        if len(found) != 1:
            break
        choice[name] = found[0]
    return choice


def lock_folder() -> Path:
    """Where this user's leases lie: on the machine itself, as locks on a network file system cannot be relied on.

    Raises
    ------
    SetupError
        When another user owns the folder.
    """
    own = Path(tempfile.gettempdir()) / f"spotwise-{os.getuid()}"
    for path in (own, own / "gpus"):
        path.mkdir(mode=0o700, exist_ok=True)
        if path.stat().st_uid != os.getuid():
            raise SetupError(f"{path}: belongs to another user; remove it, or set TMPDIR to a folder of yours")
    return own / "gpus"


def _first_free(choice: dict[str, str]) -> tuple[str, FileLock]:
    folder = lock_folder()
    locks = {name: FileLock(folder / f"{uuid.replace('/', '_')}.lock") for name, uuid in choice.items()}
    told = -math.inf
    while True:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            sign(lock)
            logger.info("GPU %s leased (%s)", name, choice[name])
            return choice[name], lock
        if time.monotonic() - told >= REMIND_SECONDS:
            told = time.monotonic()
            holders = "; ".join(holder(lock) for lock in locks.values())
            logger.warning("all %d GPUs that this job may use are taken (%s): waiting for one", len(locks), holders)
        time.sleep(POLL_SECONDS)


# --- who holds a lock -------------------------------------------------------------------------------------------------


def sign(lock: FileLock) -> None:
    """Write beside a held lock's file who holds it; what is in that file is filelock's own, where `flock` lacks."""
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    Path(lock.lock_file + SIGNED).write_text(json.dumps(facts), encoding="utf-8")


def holder(lock: FileLock) -> str:
    """Who signed a lock: ``process 123 on host, since 2026-01-31T12:00:00``."""
    try:
        facts = json.loads(Path(lock.lock_file + SIGNED).read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError):
        return "a process that has only just started"
