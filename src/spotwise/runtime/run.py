"""Start and end of a run of the workflow: its lock, refusals in one line, and interruptions."""

from __future__ import annotations

import atexit
import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from spotwise.errors import InputError, SetupError, one_line
from spotwise.runtime.gpu_locks import describe_holder, write_holder

LOCK = ".lock"
HANDSHAKE_SECONDS = 1  # for the holder to write its name
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
INTERRUPTED = (
    "Interrupted. Start again with the same command: finished results are kept, and trainings continue where they were."
)

_locks: list[FileLock] = []  # of this process, released when it ends


@contextmanager
def refusals() -> Iterator[None]:
    """End the process with one line for an error of the input, the machine or its files."""
    try:
        yield
    except (InputError, SetupError) as error:
        sys.exit(f"Error: {error}")
    except OSError as error:
        sys.exit(one_line(f"Error: {error.filename}: {error.strerror}" if error.filename else f"Error: {error}"))


def lock(folder: str | Path) -> None:
    """Lock a folder until this process ends, so that no other run writes there.

    The kernel releases the lock, also of a killed process. A file system without locks is reported on stderr.

    Raises
    ------
    SetupError
        Another run holds the lock, or the folder is read-only.
    """
    held = FileLock(Path(folder) / LOCK)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=HANDSHAKE_SECONDS)
    except Timeout:
        raise SetupError(
            f"{folder}: another run writes here ({describe_holder(held)}): wait for its end or stop it, and start again"
        ) from None
    except OSError as error:
        if error.errno in READ_ONLY:
            raise SetupError(
                f"{folder}: {error.strerror}: no results can be written here; start in a folder of yours, or give "
                "yourself permission to write"
            ) from None
        print(
            f"Warning: {folder}: no locks on this file system ({error.strerror}): start no second run here",
            file=sys.stderr,
        )
        return
    write_holder(held)
    _locks.append(held)


def remind_on(number: signal.Signals) -> None:
    """Make the process end with the way to continue if a signal stops it, after what the signal did before."""
    before = signal.getsignal(number)

    def stop(*arguments: object) -> None:
        atexit.unregister(_remind)
        atexit.register(_remind)
        if callable(before) and before is not signal.default_int_handler:
            before(*arguments)
        else:
            sys.exit(128 + number)

    signal.signal(number, stop)


def _remind() -> None:
    print(INTERRUPTED, file=sys.stderr, flush=True)
