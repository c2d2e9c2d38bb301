"""Resumable training state on disk.

The state is no output of any rule, as Snakemake deletes the outputs of a job that fails; it lies in a folder named by a
hash of everything that decides the result, so that a changed parameter starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_model

from spotwise.errors import SetupError
from spotwise.files import atomic

LAST = "last.pt"
BEST = "best.safetensors"


def identity(**facts: object) -> str:
    """Hash of JSON-able facts that together decide a training's result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


class State:
    """The state folder of one training, ``<root>/<identity>/``."""

    def __init__(self, root: str | Path, identity: str):
        self.root = Path(root)
        self.folder = self.root / identity

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that an orphaned process and its rerun cannot train into each other.

        Raises
        ------
        SetupError
            When another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise SetupError(f"{self.folder}: another process is training this; stop it, or wait for it") from None
        try:
            yield
        finally:
            lock.release()

    def load(self, device: torch.device) -> dict | None:
        """The last saved state, or ``None``. Only tensors and plain values are ever unpickled."""
        path = self.folder / LAST
        return torch.load(path, map_location=device, weights_only=True) if path.exists() else None

    def save(self, state: dict) -> None:
        """Save ``state`` as the last one."""
        with atomic(self.folder / LAST) as temporary:
            torch.save(state, temporary)

    def save_best(self, model: torch.nn.Module) -> None:
        """Save the weights of the best epoch so far."""
        with atomic(self.folder / BEST) as temporary:
            save_model(model, str(temporary))

    def publish_best(self, weights: str | Path) -> None:
        """Copy the best weights to a training's output."""
        with atomic(weights) as temporary:
            shutil.copyfile(self.folder / BEST, temporary)

    def discard(self) -> None:
        """Remove the folder, and those that other parameters have left beside it, unless a process holds them."""
        for folder in list(self.root.iterdir()):
            if folder == self.folder or _is_free(folder):
                shutil.rmtree(folder)
        if not any(self.root.iterdir()):
            self.root.rmdir()


def _is_free(folder: Path) -> bool:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True
