"""Checks of settings on models made for the purpose."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from spotwise.errors import InputError
from spotwise.runtime.validation import (
    UNSET,
    Form,
    Fraction,
    PositiveNumber,
    Settings,
    Size,
    Unique,
    fault,
    fill,
    optional,
    validated,
    words_of,
)

Code = Annotated[str, Field(pattern=r"^[a-z]+$(?!\n)"), Form("lower-case letters")]


class Inner(Settings):
    """Inner settings."""

    share: Fraction = Field(0.5, description="a share")
    choice: Literal["one", "two"] = Field("one", description="a choice")


class Outer(Settings):
    """Outer settings."""

    size: Size = Field(description="a size")
    code: Code = optional("a code")
    rate: PositiveNumber | None = Field(None, description="a rate")
    many: Unique[Size] = Field([1], min_length=1, description="sizes")
    inner: Inner = Field(default_factory=Inner, description="inner settings")
    named: dict[Code, Inner] = Field({}, description="settings by name")

    @model_validator(mode="after")
    def _check(self) -> "Outer":
        if self.size == 13:
            raise fault("size", self.size, "another size")
        return self


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "size: found nothing, expected an integer of at least 1 (a size)"),
        ({"size": 0}, "size: found 0, expected an integer of at least 1 (a size)"),
        ({"size": 2.0}, "size: found 2.0, expected an integer of at least 1 (a size)"),
        ({"size": True}, "size: found True, expected an integer of at least 1 (a size)"),
        ({"size": 13}, "size: found 13, expected another size"),
        ({"size": 1, "rate": float("inf")}, "rate: found inf, expected a number above 0 or null (a rate)"),
        (
            {"size": 1, "rate": "2"},
            "rate: found '2', expected a number above 0 or null, written 2.0; YAML takes 2 for text (a rate)",
        ),
        (
            {"size": 1, "rate": "null"},
            "rate: found 'null', expected a number above 0 or null; the command line gives null as text: write it in a "
            "file (a rate)",
        ),
        ({"size": 1, "code": "A"}, "code: found 'A', expected lower-case letters (a code)"),
        ({"size": 1, "code": "a\n"}, "code: found 'a\\n', expected lower-case letters (a code)"),
        ({"size": 1, "code": None}, "code: found None, expected lower-case letters (a code)"),
        ({"size": 1, "many": []}, "many: found [], expected one or more values, each an integer of at least 1 (sizes)"),
        ({"size": 1, "many": [1, 1]}, "many: found [1, 1], expected each value once (sizes)"),
        ({"size": 1, "many": [1, 0]}, "many.1: found 0, expected an integer of at least 1 (sizes)"),
        (
            {"size": 1, "inner": {"share": -0.1}},
            "inner.share: found -0.1, expected a number from 0 to below 1 (a share)",
        ),
        ({"size": 1, "inner": {"share": 1.0}}, "inner.share: found 1.0, expected a number from 0 to below 1 (a share)"),
        (
            {"size": 1, "inner": {"choice": "onr"}},
            "inner.choice: found 'onr', expected one of one, two; did you mean 'one'?",
        ),
        ({"size": 1, "inner": 3}, "inner: found 3, expected keys with values (inner settings)"),
        ({"size": 1, "named": {"A": {}}}, "named: found 'A', expected lower-case letters (settings by name)"),
        (
            {"size": 1, "named": {"a": {"shar": 1}}},
            "named.a.shar: found an unknown key, expected one of choice, share; did you mean 'share'?",
        ),
        (
            {"sizes": 1},
            "sizes: found an unknown key, expected one of code, inner, many, named, rate, size; did you mean 'size'?",
        ),
        ({"size": 1, False: 2}, "False: found an unknown key, expected one of code, inner, many, named, rate, size"),
        ([], "(top level): found [], expected keys with values"),
    ],
)
def test_a_fault_is_one_line_with_file_field_found_and_expected(given, message):
    with pytest.raises(InputError) as error:
        validated(Outer, given, "my.yaml")
    assert str(error.value) == f"my.yaml: {message}"


def test_the_field_of_a_part_is_that_of_the_whole():
    with pytest.raises(InputError, match=r"^my.yaml: methods.a.share: found 2, "):
        validated(Inner, {"share": 2}, "my.yaml", "methods.a")


def test_defaults_are_filled_in_at_every_level_and_nothing_else_changes():
    given = {"size": 1, "inner": {"choice": "two"}, "named": {"a": {"share": 0}}}
    settings = validated(Outer, given, "x")
    fill(given, settings)
    assert settings.code is UNSET
    assert given == {
        "size": 1,
        "rate": None,
        "many": [1],
        "inner": {"choice": "two", "share": 0.5},
        "named": {"a": {"share": 0, "choice": "one"}},
    }
    other = {"size": 1}
    fill(other, validated(Outer, other, "x"))
    other["many"].append(2)
    assert given["many"] == [1]


def test_types_and_ranges_in_words():
    words = {name: words_of(field) for name, field in Outer.model_fields.items()}
    assert words == {
        "size": "an integer of at least 1",
        "code": "lower-case letters",
        "rate": "a number above 0 or null",
        "many": "one or more values, each an integer of at least 1",
        "inner": "keys with values",
        "named": "keys with values",
    }
