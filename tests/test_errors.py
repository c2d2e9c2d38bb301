"""Claims about errors: they name file, field, found and expected in one line."""

from pathlib import Path

import pytest

from spotwise.errors import InputError, one_of


def test_an_input_error_names_file_field_found_and_expected():
    error = InputError(Path("data/st/A.h5ad"), "obsm", "nothing", "spatial")
    assert str(error) == f"{Path('data/st/A.h5ad')}: obsm: found nothing, expected spatial"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("known", "found", "expected"),
    [
        (["epochs", "threads"], "epoch", "one of epochs, threads; did you mean 'epochs'?"),
        (["epochs", "threads"], "zzz", "one of epochs, threads"),
        ([], "epochs", "one of none"),
        ([50, 250], 251, "one of 50, 250; did you mean '250'?"),
    ],
)
def test_the_closest_name_is_suggested(known, found, expected):
    assert one_of(known, found) == expected
