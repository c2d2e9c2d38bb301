"""Atomic writing of files."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.errors import SetupError

if TYPE_CHECKING:
    import pandas as pd

GRANT = "give yourself permission to write there, or start in another folder, and run again"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
# HDF5 and safetensors give the error number in their messages
DISK_FULL_MESSAGE = re.compile(rf"(errno = |os error )({'|'.join(map(str, DISK_FULL))})\b")
SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS)  # from network file systems when a folder is synced
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success and is deleted on failure.

    The content is synced to disk before the rename, so that a power failure leaves no empty file under the final name.
    The temporary file lies in the same folder and keeps the suffix, from which some writers infer the format. Stale
    temporary files of ended processes on this machine are deleted.

    Raises
    ------
    SetupError
        The disk is full, the user's quota is used up, or the folder is read-only.
    """
    path = Path(path)
    temporary = _temporary(path, os.getpid())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except Exception as error:
        if is_disk_full(error):
            raise SetupError(
                f"{path}: No space left on device: nothing was written; free some space, and run again"
            ) from error
        if getattr(error, "errno", None) in DENIED and not os.access(path.parent, os.W_OK):
            raise SetupError(f"{path}: {os.strerror(error.errno)}: nothing was written; {GRANT}") from error
        raise
    finally:
        with suppress(OSError):  # of a folder that is read-only by now
            temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int | str) -> Path:
    return path.with_name(f".{path.stem}.{socket.gethostname()}.{process}.tmp{path.suffix}")


def _remove_stale(path: Path) -> None:
    before, after = _temporary(path, "\0").name.split("\0")
    for stale in path.parent.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
        process = stale.name[len(before) : -len(after)]
        if process.isdecimal() and not Path(f"/proc/{process}").exists():
            stale.unlink(missing_ok=True)


def _sync(path: str | os.PathLike) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in SYNC_UNSUPPORTED:
            raise


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one in its chain of causes, comes from a full disk or quota."""
    while error is not None:
        if getattr(error, "errno", None) in DISK_FULL or DISK_FULL_MESSAGE.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_table(
    table: pd.DataFrame, path: str | os.PathLike, float_format: str | None = None, na_rep: str = ""
) -> None:
    """Write ``table`` without its index as CSV or TSV by the suffix of ``path``, atomically.

    Numbers are written with the fewest digits that read back the same, unless ``float_format`` is given.
    """
    separator = SEPARATORS[Path(path).suffix]
    with atomic(path) as temporary:
        table.to_csv(
            temporary, sep=separator, index=False, float_format=float_format, na_rep=na_rep, lineterminator="\n"
        )
