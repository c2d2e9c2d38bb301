"""Refusal of missing and damaged files of a prediction job."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spotwise.constants import OBSERVED
from spotwise.errors import InputError


def unreadable(path: str | os.PathLike, expected: str) -> InputError:
    """Build the error of a file that is missing or cannot be read.

    The remedy is to delete the output of its job, because a workflow does not look for single files inside it: the
    folder above ``fold{fold}``, or that of a protocol in ``observed``. Of a file elsewhere the remedy is to delete the
    file.
    """
    path = Path(path)
    found = "a damaged file" if path.exists() else "none"
    outputs = [folder.parent for folder in path.parents if re.fullmatch(r"fold\d+", folder.name)]
    outputs += [folder for folder in path.parents[:1] if folder.parent.parent.name == OBSERVED]
    return InputError(path, "file", found, f"{expected}: delete {outputs[0] if outputs else path} and run again")
