"""Writing files so that a reader never meets half of one, whatever ends the writer: a fault, a kill, a full disk."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from spotwise.errors import SetupError

if TYPE_CHECKING:
    import pandas as pd

FULL = (errno.ENOSPC, errno.EDQUOT)
UNSYNCABLE = (errno.EINVAL, errno.ENOSYS)  # how some network file systems answer where a folder is to be synced
_SYNC_EVERY_S = 0.1
SEPARATORS = {".csv": ",", ".tsv": "\t"}
# How HDF5 and safetensors say so
SAYS_FULL = re.compile(rf"(errno = |os error )({'|'.join(map(str, FULL))})\b")


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place on success, delete it on failure.

    The file is on the disk before it has its name, so that a machine that stops leaves no empty file under it. The
    temporary name keeps the suffix, as some writers choose the format by it; what killed processes of this machine left
    under such a name is removed.

    Raises
    ------
    SetupError
        When the disk is full or the user's quota used up.
    """
    path = Path(path)
    temporary = _temporary(path, os.getpid())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        _folder_to_disk(path.parent)
    except Exception as error:
        if lacks_space(error):
            raise SetupError(
                f"{path}: No space left on device: nothing was written; free some space, and run again"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int | str) -> Path:
    return path.with_name(f".{path.stem}.{socket.gethostname()}.{process}.tmp{path.suffix}")


def _remove_leftovers(path: Path) -> None:
    before, after = _temporary(path, "\0").name.split("\0")
    for left in path.parent.glob(f"{glob.escape(before)}*{glob.escape(after)}"):
        process = left.name[len(before) : -len(after)]
        if process.isdecimal() and not Path(f"/proc/{process}").exists():
            left.unlink(missing_ok=True)


def _to_disk(path: str | os.PathLike) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder_to_disk(path: Path) -> None:
    try:
        _to_disk(path)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise


def lacks_space(error: BaseException | None) -> bool:
    """Whether an error, or the one behind it, is that of a full disk."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or SAYS_FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def syncing(path: str | os.PathLike) -> Iterator[None]:
    """Bring the file at ``path`` to the disk while the body writes it; `atomic` waits for what then remains."""
    written = Event()

    def sync() -> None:
        while not written.wait(_SYNC_EVERY_S):
            _to_disk(path)

    with ThreadPoolExecutor(1) as aside:
        synced = aside.submit(sync)
        try:
            yield
        finally:
            written.set()
        synced.result()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_table(
    table: pd.DataFrame, path: str | os.PathLike, float_format: str | None = None, na_rep: str = ""
) -> None:
    """Write ``table`` without its index as CSV or TSV, atomically.

    Parameters
    ----------
    table
        Columns of numbers and text.
    path
        ``.csv`` or ``.tsv``; the suffix selects the separator.
    float_format
        Format of floating-point numbers, such as ``"%.6g"``; by default the shortest that reads back the same.
    na_rep
        Text of missing values.
    """
    separator = SEPARATORS[Path(path).suffix]
    with atomic(path) as temporary:
        table.to_csv(
            temporary, sep=separator, index=False, float_format=float_format, na_rep=na_rep, lineterminator="\n"
        )
