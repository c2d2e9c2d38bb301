"""Logging and error handling around the work of a job."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from spotwise.errors import CollapseError, InputError, SetupError, one_line
from spotwise.runtime.files import DENIED, is_disk_full

# Set by a logger that prints the error from a job's log, so that the job does not print it, too
ERROR_SHOWN = "SPOTWISE_ERROR_SHOWN"
DISK_FULL = "No space left on device: free some space, and run again"


class LogFile(logging.FileHandler):
    """Log file that drops records when its disk is full, so that they do not hide the job's error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Drop the record."""


@contextmanager
def job(log: str | Path) -> Iterator[logging.Logger]:
    """Log to a file while the body runs, and report errors in one line.

    An :class:`InputError`, :class:`SetupError` or :class:`CollapseError`, a full disk, a denied permission and a lack
    of memory end the process with exit status 1 and one line on stderr. Any other exception is logged with its
    traceback and propagates to Snakemake. With the environment variable `ERROR_SHOWN`, errors go to the log alone. A
    body that succeeds logs its wall and CPU seconds, and its peak memory.
    """
    logger = logging.getLogger("spotwise")
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        _open_log(log)
        yield logger
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        logger.info(
            "done in %.3f s, %.3f s of CPU time, after %.3f s of CPU time to start, %d MB at most",
            *(seconds, cpu_seconds, cpu_started, _peak_memory() / 1e6),
        )
    except (InputError, SetupError, CollapseError) as error:
        _exit(logger, str(error))
    except MemoryError as error:
        _exit(logger, f"out of memory ({error or 'allocation failed'}): give the job more (mem_mb)")
    except KeyboardInterrupt:
        logger.error("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if is_disk_full(error):
            _exit(logger, f"{log}: {DISK_FULL}")
        if isinstance(error, OSError) and error.errno in DENIED and error.filename:
            _exit(logger, f"{error.filename}: {os.strerror(error.errno)}: give yourself the permission, and run again")
        logger.exception("unexpected %s: %s", type(error).__name__, one_line(str(error)))
        if ERROR_SHOWN in os.environ:
            sys.exit(1)
        raise


def _peak_memory() -> int:
    """Return the most bytes resident in this process, or in one of its ended children if that had more.

    Snakemake's benchmarks sample memory now and then and miss short peaks. A process's own `ru_maxrss` begins with the
    memory of the process that started it.
    """
    own = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    return 1024 * max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _open_log(path: str | Path) -> None:
    handler = LogFile(path, mode="w", encoding="utf-8")
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)


def _exit(logger: logging.Logger, message: str) -> NoReturn:
    message = one_line(message)
    logged = bool(logging.getLogger().handlers)
    if logged:
        logger.error("%s", message)
    if not logged or ERROR_SHOWN not in os.environ:
        print(f"Error: {message}", file=sys.stderr, flush=True)
    sys.exit(1)
