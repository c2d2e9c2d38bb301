"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_line(text: str) -> str:
    """The text with line ends, and what else a terminal would act upon, as Python writes them: names come from data."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class InputError(ValueError):
    """Bad input, told in one line: where, which field, what was found, what would be right.

    Parameters
    ----------
    where
        File (or config) that holds the fault.
    field
        The key, column, dataset or row at fault.
    found, expected
        What is there, and what would be right.
    """

    def __init__(self, where: object, field: str, found: object, expected: str):
        super().__init__(one_line(f"{where}: {field}: found {found}, expected {expected}"))


class SetupError(RuntimeError):
    """The machine or account lacks what the run needs (a GPU, a token, a file); the message names the remedy."""


class CollapseError(RuntimeError):
    """Training fell into a trivial solution; going on would only burn GPU time."""


def one_of(known: Iterable[object], found: object) -> str:
    """What would be right where only ``known`` names are, and which of them ``found`` is most like."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(found), names, n=1)
    return f"one of {', '.join(names) or 'none'}" + (f"; did you mean {near[0]!r}?" if near else "")
