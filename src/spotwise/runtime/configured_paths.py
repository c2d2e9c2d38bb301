"""Types of settings that are paths, in which `~` and environment variables are expanded."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from spotwise.runtime.validation import Form, fault

VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[^}]*\})", re.ASCII)


def _expanded(path: object) -> object:
    """Expand `~`, `$NAME` and `${NAME}`, but not a `$` in the name of an existing file."""
    if not isinstance(path, str):
        return path
    found = os.path.expanduser(path)
    if not os.path.lexists(found):
        found = os.path.expanduser(os.path.expandvars(path))
        if unset := VARIABLE.search(found):
            raise fault("", repr(path), f"a path; the environment has no variable {unset[0].strip('${}')}")
    if found.startswith("~"):
        raise fault("", repr(path), f"a path; this machine has no home folder for {found.split('/')[0]}")
    return found


FilePath = Annotated[str, BeforeValidator(_expanded), Form("a path")]
FolderPath = Annotated[  # braces would be wildcards to Snakemake
    str,
    Field(pattern=r"^([^{}\n]|\$\{\w+\})+$(?!\n)"),
    BeforeValidator(_expanded),
    Form("a path without braces"),
]
PLACEHOLDERS = ("sample", "cohort", "protocol", "fold")


def _with_known_placeholders(path: str) -> str:
    """Check that braces hold `PLACEHOLDERS`, among them the sample."""
    named = re.findall(r"\{([^{}]*)\}", path)
    unknown = [name for name in named if name not in PLACEHOLDERS]
    if "sample" not in named or unknown or len(named) != path.count("{") or len(named) != path.count("}"):
        expected = "a path with {sample} in it and, where files differ by them, {cohort}, {protocol} or {fold}"
        raise fault("", repr(path), expected)
    return path


PredictionFilePath = Annotated[
    str,
    Field(pattern=r"\{sample\}"),
    BeforeValidator(_expanded),
    AfterValidator(_with_known_placeholders),
    Form("a path with {sample} in it"),
]
SampleFilePath = Annotated[
    str, Field(pattern=r"\{sample\}"), BeforeValidator(_expanded), Form("a path with {sample} in it")
]
