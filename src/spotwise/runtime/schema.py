"""JSON schemas of the configuration and the sample sheet: defaults filled in, faults told in one line."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from spotwise.errors import InputError, one_of

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"


@cache
def _content(schema: str) -> dict:
    return yaml.safe_load((SCHEMAS / schema).read_text(encoding="utf-8"))


def _filling_validator(schema: dict) -> Draft202012Validator:
    """A validator that writes the schema's defaults into the object it checks.

    Unlike JSON's, its integers have no decimal point: 64.0 cannot be a number of spots. Its numbers are finite: YAML's
    .nan passes every range.
    """
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill_and_check(validator, properties, instance, parent) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for key, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(key, copy.deepcopy(subschema["default"]))
        yield from check_properties(validator, properties, instance, parent)

    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, float) and math.isfinite(value),
        }
    )
    return validators.extend(Draft202012Validator, {"properties": fill_and_check}, type_checker=types)(schema)


def _told(error: ValidationError, where: str) -> InputError:
    """The schema's complaint as one line: file, field, found, expected."""
    field = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        field = f"{field}.{unknown}" if error.absolute_path else str(unknown)
        return InputError(where, field, "an unknown key", one_of(known, unknown))
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        field = f"{field}.{missing}" if error.absolute_path else missing
        described = error.schema.get("properties", {}).get(missing, error.schema)
        return InputError(where, field, "nothing", described.get("description", "a value"))
    return InputError(where, field, repr(error.instance), _expected(error))


def _expected(error: ValidationError) -> str:
    """What a value that breaks its schema should have been."""
    described = error.schema.get("description")
    if error.validator == "enum":
        return one_of(error.validator_value, error.instance)
    if error.validator == "pattern" and described:
        return described
    rule = f"{error.validator} {error.validator_value}"
    if error.validator == "type":
        allowed = error.validator_value
        rule = allowed if isinstance(allowed, str) else " or ".join(allowed)
    elif error.validator == "uniqueItems":
        rule = "each value once"
    return f"{rule} ({described})" if described else rule


def validate(instance: dict, schema: str, where: str) -> None:
    """Check ``instance`` against ``schemas/<schema>`` and fill its defaults in place.

    Raises
    ------
    InputError
        Naming the first field at fault.
    """
    error = best_match(_filling_validator(_content(schema)).iter_errors(instance))
    if error is not None:
        raise _told(error, where)
