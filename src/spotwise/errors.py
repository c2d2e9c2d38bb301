"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_line(text: str) -> str:
    """Escape line breaks and other control characters, which names in data may contain."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class InputError(ValueError):
    """Invalid input, reported in one line.

    Parameters
    ----------
    where
        File or configuration that contains the error.
    field
        Key, column, dataset or row in question.
    found, expected
        What is there, and what would be valid.
    """

    def __init__(self, where: object, field: str, found: object, expected: str):
        super().__init__(one_line(f"{where}: {field}: found {found}, expected {expected}"))


class SetupError(RuntimeError):
    """Missing resource of the machine or account, such as a GPU, a token or a file; the message names the remedy."""


class CollapseError(RuntimeError):
    """Training that has converged to a trivial solution."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_of(known: Iterable[object], found: object) -> str:
    """List the valid names and suggest the one closest to ``found``."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(found), names, n=1)
    return f"one of {', '.join(names) or 'none'}" + (f"; did you mean {near[0]!r}?" if near else "")
