"""Files of the user: open them, and say in one true line why one cannot be read."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.errors import InputError, SetupError, first_line

if TYPE_CHECKING:
    import h5py

FETCH_AGAIN = "copy or fetch it again"
NO_LOCKS = "set HDF5_USE_FILE_LOCKING=FALSE in the environment, and run again"

# What stands at the beginning of files that arrive in the place of another: its name, and what to do about it
CONTENTS = (
    (rb"version https://git-lfs", "a Git LFS pointer", "fetch its content with `git lfs pull`"),
    (rb"(\.\./)*(\.git)?/annex/objects/", "a git-annex pointer", "fetch its content with `git annex get`"),
    (rb"(?i)\s*(<!doctype html|<html)", "a web page", "download the file itself, signed in if need be"),
    (rb"\s*<\?xml|\s*<Error>", "an XML document", "download the file itself, signed in if need be"),
    (rb"\x1f\x8b", "a gzip archive or an .rds of R", "unpack it, or write an .h5ad"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"\x28\xb5\x2f\xfd|BZh|\xfd7zXZ", "a compressed file", "unpack it"),
    (rb"\x00+$", "a file of zeros", FETCH_AGAIN),
)


def known_content(head: bytes) -> tuple[str, str] | None:
    """Recognise what often arrives in the place of a file, with the remedy."""
    if not head:
        return "an empty file", FETCH_AGAIN
    return next(((kind, remedy) for pattern, kind, remedy in CONTENTS if re.match(pattern, head)), None)


def _content(head: bytes) -> tuple[str, str]:
    """Name the content of a file that is not HDF5, with the remedy."""
    if known := known_content(head):
        return known
    text = head.decode("utf-8", errors="replace").strip()
    if "\ufffd" not in text[:-1] and text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return f"text that begins with {text.splitlines()[0][:40]!r}", FETCH_AGAIN
    return "other content", FETCH_AGAIN


def unreadable(path: Path, field: str, error: OSError, expected: str) -> InputError:
    """Describe in an `InputError` why a file cannot be opened."""
    found, remedy = os.strerror(error.errno or 0).lower(), ""
    if isinstance(error, FileNotFoundError):
        found = "no such file"
        if path.is_symlink():
            found, remedy = (
                f"a link to {os.readlink(path)}, which does not exist",
                "restore that file, or mount its disk",
            )
    elif isinstance(error, IsADirectoryError):
        zarr = any((path / name).exists() for name in (".zgroup", "zarr.json"))
        found, remedy = ("a Zarr store", "write it with `write_h5ad`") if zarr else ("a folder", "")
    elif isinstance(error, PermissionError):
        found, remedy = "no permission to read it", "ask its owner, or grant it with `chmod`"
    return InputError(path, field, found, f"{expected}; {remedy}" if remedy else expected)


@contextmanager
def open_input(path: str | Path, expected: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of the user for reading.

    Parameters
    ----------
    path
        File to open.
    expected
        What it should be, for messages, such as "a complete .h5ad".

    Raises
    ------
    InputError
        The file cannot be opened, or a read in the body of the ``with`` statement fails.
    """
    import h5py  # not needed to read a configuration

    path = Path(path)
    try:
        with path.open("rb") as file:  # the operating system's reasons are clearer than HDF5's
            head = file.read(512)
    except OSError as error:
        raise unreadable(path, "file", error, expected) from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (InputError, SetupError):
        raise
    except (OSError, RuntimeError) as error:  # h5py raises either for a damaged file
        if isinstance(error, OSError) and error.errno and not lock_fault(error):
            raise unreadable(path, "file", error, expected) from None
        found, remedy = _hdf5_fault(path, head, error)
        raise InputError(path, "file", found, f"{expected}; {remedy}") from error


def lock_fault(error: BaseException) -> tuple[str, str] | None:
    """Say why HDF5 could not lock a file and what to do, or return None for another failure."""
    if "unable to lock file" not in str(error):
        return None
    number = getattr(error, "errno", None) or 0
    if number in (errno.EAGAIN, errno.EACCES):
        return "a lock: another program has it open for writing", "close it there (in a notebook?), and run again"
    return f"a file system without file locks ({os.strerror(number)})", NO_LOCKS


def _hdf5_fault(path: Path, head: bytes, error: BaseException) -> tuple[str, str]:
    """Say what HDF5's message means and what to do."""
    message = first_line(error)
    if known := lock_fault(error):
        return known
    if "already open for write" in message:
        return "a mark that its writer did not close it", "write it again, or clear the mark with `h5clear -s`"
    if truncated := re.search(r"truncated file: eof = (\d+),.*stored_eof = (\d+)", message):
        return f"a truncated file ({truncated[1]} of {truncated[2]} bytes)", FETCH_AGAIN
    if "signature not found" in message:
        kind, remedy = _content(head)
        return f"{kind} ({path.stat().st_size} bytes), not HDF5", remedy
    if dataset := _without_filter(path):
        return dataset, "write it again with compression='gzip'"
    return f"a damaged file ({message})", FETCH_AGAIN


def _without_filter(path: Path) -> str | None:
    """Name a dataset whose compression this HDF5 cannot undo, if there is one."""
    import h5py

    found = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks and not found:
            layout = item.id.get_create_plist()
            for number, _, _, label in map(layout.get_filter, range(layout.get_nfilters())):
                if not h5py.h5z.filter_avail(number):
                    title = label.decode(errors="replace").split(";")[0].strip()
                    found.append(
                        f"{name} in a compression that is not installed ({title or 'filter'}, number {number})"
                    )

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError):
        pass  # too damaged to look into
    return found[0] if found else None
