"""JSON schemas of the configuration and the sample sheet: defaults filled in, faults told in one line."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match

from spotwise.errors import InputError

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


def _filling_validator(schema: dict) -> Draft202012Validator:
    """A validator that writes the schema's defaults into the object it checks."""
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill_and_check(validator, properties, instance, parent) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for key, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(key, copy.deepcopy(subschema["default"]))
        yield from check_properties(validator, properties, instance, parent)

    return validators.extend(Draft202012Validator, {"properties": fill_and_check})(schema)


def _told(error: ValidationError, where: str) -> InputError:
    """The schema's complaint as one line: file, field, found, expected."""
    field = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))[0]
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        field = f"{field}.{unknown}" if error.absolute_path else unknown
        return InputError(where, field, "an unknown key", f"one of {', '.join(known)}{hint}")
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        field = f"{field}.{missing}" if error.absolute_path else missing
        return InputError(where, field, "nothing", error.schema["properties"][missing].get("description", "a value"))
    expected = error.schema.get("description") or f"{error.validator} {error.validator_value}"
    if error.validator == "enum":
        expected = f"one of {', '.join(map(str, error.validator_value))}"
    elif error.validator == "type":
        kinds = error.validator_value
        expected = kinds if isinstance(kinds, str) else " or ".join(kinds)
        if error.schema.get("description"):
            expected += f" ({error.schema['description']})"
    return InputError(where, field, repr(error.instance), expected)


def validate(instance: dict, schema: str, where: str) -> None:
    """Check ``instance`` against ``schemas/<schema>`` and fill its defaults in place.

    Raises
    ------
    InputError
        Naming the first field at fault.
    """
    content = yaml.safe_load((SCHEMAS / schema).read_text(encoding="utf-8"))
    error = best_match(_filling_validator(content).iter_errors(instance))
    if error is not None:
        raise _told(error, where)
