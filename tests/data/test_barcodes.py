"""One barcode has one text, however a file stores it."""

import numpy as np
import pandas as pd
import pytest

from spotwise.data.barcodes import clean_label, clean_labels


@pytest.mark.parametrize(
    "stored",
    ["AC-1", b"AC-1", np.bytes_(b"AC-1"), "b'AC-1'", 'b"AC-1"', "AC-1 ", "\tAC-1\n", b"AC-1 ", "b'AC-1 '"],
)
def test_every_form_of_a_barcode_gives_its_text(stored):
    assert clean_label(stored) == "AC-1"


def test_numbers_become_text_and_missing_labels_become_empty():
    assert clean_labels([7, np.int64(8)]) == ["7", "8"]
    assert clean_labels([None, np.nan, pd.NA, "", "  "]) == [""] * 5


def test_names_that_only_resemble_bytes_stay():
    for name in ("b", "b'", "b'x", "bx'", "B'AC'"):
        assert clean_label(name) == name


def test_bytes_of_another_encoding_are_not_guessed():
    with pytest.raises(UnicodeDecodeError):
        clean_label(b"\xff")
