"""What every job does around its work: write a log, and end with one line when the input or the machine is at fault."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spotwise.errors import CollapseError, InputError, SetupError, one_line
from spotwise.runtime.files import lacks_space


@contextmanager
def job(log: str | Path) -> Iterator[logging.Logger]:
    """Log to ``log`` while the body runs, and at its end what it took.

    An :class:`InputError`, :class:`SetupError` or :class:`CollapseError`, and a lack of disk space or memory, end the
    process with one line; any other exception leaves its traceback in the log and goes on to Snakemake.
    """
    logger = logging.getLogger("spotwise")
    # On a full disk neither the log nor what HDF5 tries again when its objects go may hide why the job ends; h5py
    # prints such errors, which cannot be raised, by both hooks
    logging.raiseExceptions = False
    began, started = time.perf_counter(), time.process_time()
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, error, trace: logger.warning("ignored: %s", error)
    sys.unraisablehook = lambda fault: logger.warning("ignored: %s", fault.exc_value)
    try:
        _open_log(log)
        yield logger
        took, processed = time.perf_counter() - began, time.process_time() - started
        logger.info("done in %.3f s, %.3f s of CPU time, after %.3f s of CPU time to start", took, processed, started)
    except (InputError, SetupError, CollapseError) as error:
        _end(logger, error, str(error))
    except MemoryError as error:
        _end(logger, error, f"out of memory ({error or 'no room for an object'}): give the job more (mem_mb)")
    except Exception as error:
        if lacks_space(error):
            _end(logger, error, f"{log}: No space left on device: free some space, and run again")
        logger.exception("unexpected error")
        raise
    finally:
        sys.excepthook, sys.unraisablehook = hooks


def _open_log(path: str | Path) -> None:
    logging.basicConfig(filename=path, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)


def _end(logger: logging.Logger, error: BaseException, line: str) -> None:
    line = one_line(line)
    logger.error("%s", line)
    print(f"Error: {line}", file=sys.stderr, flush=True)
    if lacks_space(error):
        logging.shutdown()
        os._exit(1)  # HDF5 would write again what it could not, and crash
    sys.exit(1)
