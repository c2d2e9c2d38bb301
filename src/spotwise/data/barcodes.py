"""Barcodes as files hold them, and as the project compares them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

BYTES_AS_TEXT = re.compile(r"""b(['"])(.*)\1$""")  # what `str` makes of bytes in Python 3


def clean_label(label: object) -> str:
    """Return a label as text, without blanks around it, and "" for a missing one.

    Bytes are decoded, and so is their representation as text, ``b'ACGT-1'``, which careless writers store.

    Raises
    ------
    UnicodeDecodeError
        For bytes that are not UTF-8.
    """
    if isinstance(label, bytes):
        label = label.decode("utf-8")
    if not isinstance(label, str) and pd.isna(label):
        return ""
    text = str(label).strip()
    return unwrapped[2].strip() if (unwrapped := BYTES_AS_TEXT.match(text)) else text


def clean_labels(labels: Iterable[object]) -> list[str]:
    """Return the :func:`clean_label` of each."""
    return [clean_label(label) for label in labels]
