"""Resumable state of a training on disk.

The state is not an output of a rule, because Snakemake deletes the outputs of a failed job. Its folder is named by a
hash of everything that decides the result, so that a changed parameter starts a new training.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from spotwise.errors import SetupError, first_line
from spotwise.runtime import devices
from spotwise.runtime.files import atomic
from spotwise.runtime.gpu_locks import HOLDER_SUFFIX, describe_holder, write_holder

logger = logging.getLogger(__name__)

LAST = "last.pt"
LOCK = "lock"
HANDOVER_SECONDS = 60  # for a process that was asked to stop; SLURM kills it half a minute later
HASHED_AT_ONCE = 1024  # patches of 150 kB


def identity(**facts: object) -> str:
    """Hash the facts that decide the result of a training, all of which JSON can represent."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def hash_tensors(*contents: torch.Tensor) -> str:
    """Hash shapes and values of tensors on any device."""
    digest = hashlib.blake2b()
    for content in contents:
        digest.update(str(tuple(content.shape)).encode())
        for part in content.split(HASHED_AT_ONCE):
            digest.update(part.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def hash_file(path: object) -> str:
    """Hash a file, or return ``""`` where there is none."""
    if not path:
        return ""
    with open(str(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(root: str | Path) -> Iterator[None]:
    """Lock the state of one training, whatever its parameters.

    Raises
    ------
    SetupError
        When another process still holds the lock after `HANDOVER_SECONDS`, such as one left behind by a killed
        Snakemake, or that of another run.
    """
    root = Path(root)
    lock = FileLock(root / LOCK)
    deadline = None
    while not _acquired(lock):
        if deadline is None:
            deadline = time.monotonic() + HANDOVER_SECONDS
            logger.warning("%s is held by %s: waiting %d s for it", root, describe_holder(lock), HANDOVER_SECONDS)
        elif time.monotonic() > deadline:
            raise SetupError(
                f"{root}: another process is training this ({describe_holder(lock)}), left behind by a killed run or "
                "started by another one: wait until it is done or stop it, and run again"
            )
        time.sleep(0.2)
    write_holder(lock)
    try:
        yield
    finally:
        if {path.name for path in root.iterdir()} <= {LOCK, LOCK + HOLDER_SUFFIX}:  # no state to keep
            shutil.rmtree(root, ignore_errors=True)  # another process may just have made a lock of its own there
        lock.release()


def _acquired(lock: FileLock) -> bool:
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):  # the holder has just removed the folder
        return False
    return True


class State:
    """State folder of one training, ``<root>/<identity>/``, to be used while ``root`` is locked."""

    def __init__(self, root: str | Path, identity: str):
        self.root = Path(root)
        self.folder = self.root / identity

    def load(self) -> dict | None:
        """Load the last saved state into main memory, ``None`` where there is none or it is damaged.

        Only tensors and plain values are unpickled. A damaged state costs the training so far, but blocks no attempt.
        """
        if not (self.folder / LAST).exists():
            return None
        try:
            return torch.load(self.folder / LAST, map_location="cpu", weights_only=True)
        except Exception as error:  # RuntimeError, EOFError, UnpicklingError and others
            if isinstance(error, OSError) or devices.is_out_of_memory(error):
                raise
            logger.warning("%s: damaged (%s): the training starts again", self.folder, first_line(error))
            return None

    def save(self, state: dict) -> None:
        # through a Python file, whose errors report a full disk, unlike torch's own
        with atomic(self.folder / LAST) as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def discard(self) -> None:
        """Remove the state, and states of other parameters beside it."""
        for folder in [path for path in self.root.iterdir() if path.is_dir()]:
            shutil.rmtree(folder)
