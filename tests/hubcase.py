"""A sample on the stand-in hub, and its download, for the tests of transfers and of faults."""

from pathlib import Path

import numpy as np

import fakehub
from spotwise.data.hub import RetryPolicy, fetch_sample
from spotwise.data.manifest import manifest_path

COUNTS, METADATA = "st/S1.h5ad", "metadata/S1.json"
FILES = (COUNTS, METADATA)
SIZE = 400_000
QUICK = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02, longest_pause=2)


def sample_files():
    return {COUNTS: np.random.default_rng(0).bytes(SIZE), METADATA: b'{"id": "S1"}\n'}


def fetch(hub, root, files=FILES, **settings):
    settings = {"token": fakehub.TOKEN, "endpoint": hub.url, "policy": QUICK} | settings
    return fetch_sample(fakehub.REPO, settings.pop("revision", fakehub.COMMIT), "S1", list(files), root, **settings)


def manifest_of(root, revision=fakehub.COMMIT):
    return manifest_path(root, revision, "S1")


def staged(root, path=COUNTS):
    """Where a file waits for its verification."""
    return root / ".partial" / "S1" / path


def files_in(folder: Path):
    """Files below a folder, but for those of unfinished downloads."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != ".partial")
