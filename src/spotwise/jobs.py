"""What every job does around its work: write a log, and end with one line when the input is at fault."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spotwise.errors import CollapseError, InputError, SetupError


@contextmanager
def job(log: str | Path) -> Iterator[logging.Logger]:
    """Log to ``log`` while the body runs.

    An :class:`InputError`, :class:`SetupError` or :class:`CollapseError` ends the process with its one line; any other
    exception leaves its traceback in the log and goes on to Snakemake.
    """
    logging.basicConfig(filename=log, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    logger = logging.getLogger("spotwise")
    try:
        yield logger
    except (InputError, SetupError, CollapseError) as error:
        logger.error("%s", error)
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected error")
        raise
