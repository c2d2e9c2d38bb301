"""Manifests of downloaded samples: which files were verified, and whether they are still the same.

The manifest of a sample at a commit is ``<data>/downloads/<commit>/<sample>.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spotwise.data.credentials import token_from_environment
from spotwise.errors import InputError
from spotwise.runtime.files import sha256

FIELDS = {"path": str, "size": int, "sha256": str, "etag": str, "commit": str, "modified_ns": int}
REMEDY = "delete the manifest, and its files are compared with the hub again"


def manifest_path(root: str | Path, revision: str, sample: str) -> Path:
    """Return the path of a sample's manifest at a commit."""
    return Path(root) / "downloads" / revision / f"{sample}.json"


def read_manifest(path: str | Path) -> list[dict]:
    """Read a manifest, or raise `InputError` if it is missing or damaged.

    Per file it has ``path`` below the data folder, ``size`` in bytes, ``sha256``, ``etag`` (the hash that the hub
    states), ``commit`` and ``modified_ns`` (time of change in ns).
    """
    path = Path(path)
    expected = f"the manifest of a download: {REMEDY}"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, "manifest", error.strerror, expected) from None
    except ValueError:  # neither UTF-8 nor JSON
        raise InputError(path, "manifest", "no JSON", expected) from None
    if not isinstance(records, list) or not records:
        raise InputError(path, "manifest", "no list of files", expected)
    for number, record in enumerate(records):
        for name, kind in FIELDS.items():
            if not isinstance(record, dict) or not isinstance(record.get(name), kind):
                raise InputError(path, f"file {number}", f"no {name}", expected)
        if record["commit"] != path.parent.name:
            right = f"{path.parent.name}, as its folder is named: {REMEDY}"
            raise InputError(path, f"file {number}", f"commit {record['commit']}", right)
    return records


def new_record(root: Path, path: str, etag: str, commit: str) -> dict:
    """Return the record of a file that was verified."""
    status = (root / path).stat()
    digest = etag if len(etag) == 64 else sha256(root / path)  # the etag of a large file is its sha256
    record = {"path": path, "size": status.st_size, "sha256": digest, "etag": etag, "commit": commit}
    return record | {"modified_ns": status.st_mtime_ns}


def difference(path: Path, record: Mapping, by_hash: bool = False) -> tuple[str, str, str] | None:
    """Compare a file with its record by size, time and, ``by_hash``, content.

    Returns field, found and expected; ``None`` if the file is unchanged. The content is also read if the time differs:
    a file of the recorded content, as after a copy, then gets its time back and is read only once.
    """
    remedy = "as downloaded: delete the file to download it again"
    if not path.is_file():
        return "file", "nothing", f"{record['size']} bytes: run the pipeline to download it again"
    status = path.stat()
    if status.st_size != record["size"]:
        return "size", f"{status.st_size} bytes", f"{record['size']}, {remedy}"
    if status.st_mtime_ns != record["modified_ns"] or by_hash:
        if (found := sha256(path)) != record["sha256"]:
            return "sha256", found, f"{record['sha256']}, {remedy}"
        with suppress(PermissionError):  # in a read-only folder it is read each time
            os.utime(path, ns=(record["modified_ns"], record["modified_ns"]))
    return None


def check(root: str | Path, manifest: str | Path, by_hash: bool = False) -> list[dict]:
    """Check files in a data folder against a manifest and return it.

    With ``by_hash``, every file is read and a missing one is refused. Otherwise a missing file passes, as a run
    downloads it again.

    Raises
    ------
    InputError
        Naming the file that differs, or the manifest if that is damaged.
    """
    records = read_manifest(manifest)
    for record in records:
        path = Path(root) / record["path"]
        if (by_hash or path.exists()) and (changed := difference(path, record, by_hash)):
            raise InputError(path, *changed)
    return records


def require(root: str | Path, revision: str, files: Mapping[str, Sequence[str]]) -> None:
    """Check before a run that its files (by sample) can be used.

    Raises
    ------
    InputError
        If a file differs from its manifest, or a manifest is damaged or lacks a file that exists.
    SetupError
        If a file or manifest is missing and there is no token to download it.
    """
    root = Path(root)
    complete = True
    for sample, paths in files.items():
        manifest = manifest_path(root, revision, sample)
        existing = [path for path in paths if (root / path).exists()]
        complete &= manifest.exists() and existing == list(paths)
        if manifest.exists():
            listed = {record["path"] for record in check(root, manifest)}
            for path in existing:
                if path not in listed:
                    raise InputError(manifest, path, "nothing", f"its hash: {REMEDY}")
    if not complete:
        token_from_environment()
