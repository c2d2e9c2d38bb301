"""Start and end of a run of the workflow: its lock, refusals in one line, and interruptions."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from spotwise.errors import InputError, SetupError, one_line
from spotwise.runtime.files import DENIED, GRANT
from spotwise.runtime.gpu_locks import describe_holder, write_holder

LOCK = ".lock"
HANDSHAKE_SECONDS = 1  # for the holder to write its name
INTERRUPTED = (
    "Interrupted. Start again with the same command: finished results are kept, and trainings continue where they were."
)

# Beginning of the shell commands of jobs. SIGINT from the terminal would reach them while they still start, and Python
# would answer with tracebacks. They get SIGTERM instead: it ends them quietly, and trainings save their state.
JOB_PREFIX = "set -euo pipefail; trap '' INT; "

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
        if error.errno in DENIED:
            raise SetupError(f"{folder}: {error.strerror}: no results can be written; {GRANT}") from None
        print(
            f"Warning: {folder}: no locks on this file system ({error.strerror}): start no second run here",
            file=sys.stderr,
        )
        return
    write_holder(held)
    _locks.append(held)


def end_on_interrupt() -> None:
    """Make Ctrl-C end this process and its jobs, without a traceback, and say at the end how to continue."""
    signal.signal(signal.SIGINT, _interrupted)


def remind_on_terminate() -> None:
    """Say at the end how to continue, after what SIGTERM does so far: Snakemake waits for the jobs that run."""
    before = signal.getsignal(signal.SIGTERM)

    def terminated(*arguments: object) -> None:
        atexit.unregister(_remind)
        atexit.register(_remind)
        before(*arguments)

    signal.signal(signal.SIGTERM, terminated)


def _interrupted(*_: object) -> None:
    atexit.unregister(_remind)
    atexit.register(_remind)
    threading.Thread(target=_end_jobs, daemon=True).start()
    sys.exit(128 + signal.SIGINT)


def _end_jobs() -> None:
    """Send SIGTERM to all processes of jobs, again and again, as one may just start."""
    while True:
        time.sleep(0.3)  # Snakemake reports the interruption first
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if not process.children():  # not to the shell around it, which would not wait for it
                    process.terminate()


def _remind() -> None:
    print(INTERRUPTED, file=sys.stderr, flush=True)
