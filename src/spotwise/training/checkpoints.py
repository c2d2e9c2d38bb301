"""Resumable training state on disk.

The state is no output of any rule, as Snakemake deletes the outputs of a job that fails; it lies in a folder named by a
hash of everything that decides the result, so that a changed parameter starts afresh.
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
from safetensors import safe_open
from safetensors.torch import save_model

from spotwise.errors import SetupError
from spotwise.runtime import devices
from spotwise.runtime.files import atomic
from spotwise.runtime.gpu_locks import HOLDER_SUFFIX, describe_holder, write_holder

logger = logging.getLogger(__name__)

LAST = "last.pt"
BEST = "best.safetensors"
LOCK = "lock"
HANDOVER_SECONDS = 60  # for a process that was told to stop; SLURM kills it half a minute after telling it


def identity(**facts: object) -> str:
    """Hash of JSON-able facts that together decide a training's result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


@contextmanager
def locked(root: str | Path) -> Iterator[None]:
    """Hold the state of one training, whatever its parameters: two would write the same weights.

    A process that has been told to stop is waited for a moment. One that a killed Snakemake left behind, or that of
    another run, goes on: then this one stops and names it.

    Raises
    ------
    SetupError
        When another process still holds it after `HANDOVER_SECONDS`.
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
    """The state folder of one training, ``<root>/<identity>/``; hold ``root`` while using it."""

    def __init__(self, root: str | Path, identity: str):
        self.root = Path(root)
        self.folder = self.root / identity

    def load(self, device: torch.device) -> dict | None:
        """The last saved state; ``None`` where there is none, or where it is damaged.

        Only tensors and plain values are ever unpickled. A damaged state costs the training so far, and is told, but
        must not stop every attempt to come.
        """
        if not (self.folder / LAST).exists():
            return None
        try:
            saved = torch.load(self.folder / LAST, map_location=device, weights_only=True)
            if saved["best_epoch"]:
                _check_whole(self.folder / BEST)
        except Exception as error:  # RuntimeError, EOFError, UnpicklingError and more, by what is damaged
            if isinstance(error, OSError) or devices.is_out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logger.warning("%s: damaged (%s): starting afresh", self.folder, reason)
            return None
        return saved

    def save(self, state: dict) -> None:
        """Save ``state`` as the last one."""
        # through a file of Python's, whose errors, unlike those of torch's own, say that a disk is full
        with atomic(self.folder / LAST) as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def save_best(self, model: torch.nn.Module) -> None:
        """Save the weights of the best epoch so far."""
        with atomic(self.folder / BEST) as temporary:
            save_model(model, str(temporary))

    def publish_best(self, weights: str | Path) -> None:
        """Copy the best weights to a training's output."""
        with atomic(weights) as temporary:
            shutil.copyfile(self.folder / BEST, temporary)

    def discard(self) -> None:
        """Remove the state, and what other parameters have left beside it."""
        for folder in [path for path in self.root.iterdir() if path.is_dir()]:
            shutil.rmtree(folder)


def _check_whole(weights: Path) -> None:
    if not weights.exists():
        raise ValueError(f"no {weights.name}")
    with safe_open(weights, "pt"):  # compares the file's size with what its header says
        pass
