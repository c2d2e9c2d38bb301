"""Names that are one to the eye are found, and different ones are left alone."""

import pytest

from spotwise.data.spellings import alike

SAME = [
    ("P1", "p1"),
    ("Patient 1", "patient1"),
    ("Patient 1", "Patient  1"),
    ("Patient 1", "Patient\u00a01"),  # no-break space
    ("P1", "P1\u200b"),  # zero-width space
    ("P1", "\u2066P1\u2069"),  # marks of direction, as copied from a web page
    ("Müller", "Mu\u0308ller"),  # composed and decomposed
    ("P1", "\uff30\uff11"),  # full-width
    ("PA-1", "PA\u20131"),  # en dash
    ("PA-1", "PA_1"),
    ("Patient C", "Patient_C"),
    ("P1", "\u04201"),  # Cyrillic Er
    ("apex", "\u0430\u0440\u0435\u0445"),  # Cyrillic throughout
    ("A", "\u0391"),  # Greek Alpha
    ("a", "\u0391"),
    ("P1", "P01"),
    ("1", "001"),
    ("P10", "P1O"),
    ("PO1", "P01"),
    ("P1", "Pl"),
    ("P1", "PI"),
    ("straße", "STRASSE"),
]

DIFFERENT = [
    ("P1", "P11"),
    ("Patient 1", "Patient 10"),
    ("P10", "P1"),
    ("P100", "P10"),
    ("A", "B"),
    ("A1", "A-1"),
    ("P1.05", "P1.5"),
    ("Müller", "Muller"),
    ("L1", "11"),  # a capital L looks like no digit
    ("patient a", "patient b"),
    ("Ж", "Ш"),
    ("患者一", "患者二"),
    ("PT_8 LNM", "PT_8 PRIM"),
]


@pytest.mark.parametrize("pair", SAME)
def test_two_spellings_of_a_name_are_found(pair):
    assert alike(["other", pair[0], "third", pair[0], pair[1]]) in ((1, 4), (3, 4))
    assert alike(pair[::-1]) == (0, 1)


@pytest.mark.parametrize("pair", DIFFERENT)
def test_two_names_stay_two(pair):
    assert alike([*pair, *pair]) is None
