"""Names that differ only in their spelling, as those of one patient in a table that people typed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence

# Letters of other scripts that look like Latin ones, in the order of the Latin letters beside them
CYRILLIC, GREEK = ("АВЕЅІЈКМНОРСТУХ", "ABESIJKMHOPCTYX"), ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX")
_LATIN = str.maketrans("".join(one[0] for one in (CYRILLIC, GREEK)), "".join(one[1] for one in (CYRILLIC, GREEK)))
_LATIN |= {ord(chr(other).lower()): ord(chr(latin).lower()) for other, latin in _LATIN.items()}
_DIGITS_LIKE_LETTERS = str.maketrans("01|Io", "OlllO")
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")


def alike(names: Sequence[str]) -> tuple[int, int] | None:
    """Find the first two different names that are one to the eye.

    Such names differ only in case, blanks, dashes, invisible characters, the form of Unicode, leading zeros, or
    characters that look alike (Cyrillic, Greek, full-width; 0 and O; 1, l and I).

    Returns
    -------
    tuple or None
        Their places, the later one second.
    """
    keys = (_without_case, _with_one_separator, _digits_as_letters)
    return next((pair for key in keys if (pair := first_pair(names, key))), None)


def first_pair(names: Sequence[str], key: Callable[[str], Hashable]) -> tuple[int, int] | None:
    """Find the places of the first two different names with the same key."""
    seen: dict[Hashable, int] = {}
    for place, name in enumerate(names):
        before = seen.setdefault(key(name), place)
        if names[before] != name:
            return before, place
    return None


def _without_case(name: str) -> str:
    return _LEADING_ZEROS.sub("", _in_latin(name).upper().translate(_LATIN))


def _with_one_separator(name: str) -> str:
    return _without_case("-".join(name.replace("_", " ").replace("-", " ").split()))


def _digits_as_letters(name: str) -> str:
    return _in_latin(name).translate(_DIGITS_LIKE_LETTERS)


def _in_latin(name: str) -> str:
    """Return the visible characters of a name, with one kind of dash and Latin letters."""
    if name.isascii():
        return "".join(name.split()).replace("_", "-")
    visible = filter(_is_visible, unicodedata.normalize("NFKC", name))
    return "".join(map(_dashed, visible)).translate(_LATIN)


def _dashed(character: str) -> str:
    return "-" if character in "_−" or unicodedata.category(character) == "Pd" else character


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "ZC"
