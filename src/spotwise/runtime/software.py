"""Versions of the software behind a result."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from importlib import metadata

from spotwise.runtime.code_version import PACKAGE
from spotwise.runtime.files import sha256

ROOT = PACKAGE.parents[1]
# Packages on which the pixels of a patch depend that is cut from a slide
SLIDE_READERS = ("openslide-python", "openslide-bin", "tifffile", "imagecodecs", "pillow")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions by name of those ``packages`` that are installed."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def locked_packages() -> dict[str, object]:
    """Return the hash of the lock file and the installed versions of the direct dependencies.

    Dependencies missing from this environment are left out.
    """
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    return {"requirements.lock": sha256(ROOT / "requirements.lock"), "packages": versions(*names)}


def checkout() -> dict[str, object] | None:
    """Return the workflow's commit and whether files differ from it.

    ``None`` where the workflow lies in no git checkout of its own.
    """
    try:
        if _git("rev-parse", "--show-toplevel") != str(ROOT):
            return None
        return {
            "commit": _git("rev-parse", "HEAD"),
            "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
