"""Base of all settings, and their faults as one line.

A setting is defined once, as a field of a pydantic model with type, default, range and description. Error messages, the
JSON schemas and the configuration reference derive from these fields.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from spotwise.errors import InputError, one_of

Model = TypeVar("Model", bound="Settings")
Item = TypeVar("Item")


class Unset(Enum):
    """Value of a setting that may be left out and has no default."""

    UNSET = "unset"


UNSET: Any = Unset.UNSET


class Settings(BaseModel):
    """Base of all settings.

    Types are strict: 64.0 is no integer, true no number, "1" neither, and numbers are finite.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        regex_engine="python-re",  # its `$` also matches before a final line end, which `(?!\n)` excludes
        protected_namespaces=(),
    )


def optional(description: str, **rules: Any) -> Any:
    """Declare a setting that may be left out and has no default."""
    return Field(default=UNSET, description=description, **rules)


@dataclass(frozen=True)
class Form:
    """What values of a type look like, in words, where its pattern would not tell a user."""

    words: str


def _each_once(values: list[Item]) -> list[Item]:
    if any(value in values[:place] for place, value in enumerate(values)):
        raise PydanticCustomError("each_once", "each value once")
    return values


Unique = Annotated[list[Item], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveNumber = Annotated[float, Field(gt=0)]
Size = Annotated[int, Field(ge=1)]


def fault(field: str, found: object, expected: str) -> PydanticCustomError:
    """Build the error of a validator that looks at several fields of a model."""
    return PydanticCustomError(
        "fault",
        "{field}: found {found}, expected {expected}",
        {"field": field, "found": str(found), "expected": expected},
    )


# --- checking ---------------------------------------------------------------------------------------------------------


def validated(model: type[Model], given: Mapping[str, object], where: str, field: str = "") -> Model:
    """Check settings against their model.

    Parameters
    ----------
    model
        Class that defines the settings.
    given
        The settings as read from a file.
    where, field
        The file and the dotted field that hold ``given``, for messages.

    Raises
    ------
    InputError
        For an unknown key, a missing one, or a value of another type or outside its range. Only the first fault is
        reported, unknown keys before all others, because a mistyped key is often also a missing one.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        unknown = [one for one in faults if one["type"] in ("extra_forbidden", "invalid_key")]
        raise _input_error((unknown or faults)[0], model, where, field) from None


def fill(given: dict, settings: Settings) -> None:
    """Add the defaults of checked ``settings`` and their expanded paths to the dictionary that they were read from."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name in given and isinstance(value, str):
            given[name] = value
        elif name in given:
            _fill_value(given[name], value)
        elif value is not UNSET:
            given[name] = plain(value)


def _fill_value(given: object, value: object) -> None:
    if isinstance(value, Settings):
        fill(given, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _fill_value(given[key], item)
    elif isinstance(value, list):
        for given_item, item in zip(given, value, strict=True):
            _fill_value(given_item, item)


def plain(value: object) -> object:
    """Return a copy of a setting's value as YAML would hold it."""
    if isinstance(value, Settings):
        section: dict = {}
        fill(section, value)
        return section
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


# --- messages ---------------------------------------------------------------------------------------------------------


def _input_error(error: Mapping[str, Any], model: type[Settings], where: str, field: str) -> InputError:
    kind, place, value = error["type"], error["loc"], error["input"]
    if kind == "fault":
        found = error["ctx"]
        return InputError(where, _dotted(field, *place, found["field"]), found["found"], found["expected"])
    if kind == "invalid_key":
        return InputError(where, _dotted(field, *place[:-1], value), "an unknown key", _known(model, place[:-1], value))
    if kind == "extra_forbidden":
        return InputError(where, _dotted(field, *place), "an unknown key", _known(model, place[:-1], place[-1]))
    annotation, described = _at(model, place)
    if kind == "missing":
        rule = words(annotation)
        expected = described if rule in ("text", "keys with values") else f"{rule} ({described})"
        return InputError(where, _dotted(field, *place), "nothing", expected)
    shown = place[:-2] if place[-1:] == ("[key]",) else place
    return InputError(where, _dotted(field, *shown), repr(value), _expected(kind, annotation, described, value))


def _dotted(*parts: object) -> str:
    return ".".join(str(part) for part in parts if part != "") or "(top level)"


def _known(model: type[Settings], place: tuple, key: object) -> str:
    section = _bare(_at(model, place)[0])
    return one_of(sorted(section.model_fields), key)


def _expected(kind: str, annotation: Any, described: str, value: object) -> str:
    choices = _choices(annotation)
    if choices:
        hint = '; quote "no", which YAML reads as false' if value is False and "no" in choices else ""
        return one_of(choices, value) + hint
    rule = "each value once" if kind == "each_once" else words(annotation)
    if isinstance(value, str) and "number" in rule:
        with suppress(ValueError):
            rule += f", written {float(value)!r}; YAML takes {value} for text"
    if value == "null" and "null" in rule:
        rule += "; the command line gives null as text: write it in a file"
    return f"{rule} ({described})" if described and described != rule else rule


def words_of(field: FieldInfo) -> str:
    """Put the type and range of a field into words."""
    return words(_annotation(field))


def words(annotation: Any) -> str:
    """Put the type and range of a setting into words."""
    annotation, metadata = _bare(annotation), _metadata(annotation)
    forms = [one.words for one in metadata if isinstance(one, Form)]
    if forms:
        return forms[-1]
    members = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        limits = _limited(metadata)
        return " or ".join("null" if one is type(None) else words(one) + limits for one in members)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, members))}"
    if get_origin(annotation) is list:
        least = "one or more values" if any(getattr(one, "min_length", 0) for one in metadata) else "a list"
        return f"{least}, each {words(members[0])}"
    if annotation is dict or get_origin(annotation) is dict or _is_model(annotation):
        return "keys with values"
    noun = {int: "an integer", float: "a number", bool: "true or false", str: "text"}[annotation]
    return noun + _limited(metadata)


def _limited(metadata: list[object]) -> str:
    """Range of a number in words, with the blank before it."""
    limits = {
        name: getattr(one, name)
        for one in metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if hasattr(one, name)
    }
    least, above, most, below = (limits.get(name) for name in ("ge", "gt", "le", "lt"))
    parts = []
    if least is not None and most is not None:
        parts.append(f"from {least} to {most}")
    elif least is not None and below is not None:
        parts.append(f"from {least} to below {below}")
    elif above is not None and below is not None:
        parts.append(f"between {above} and {below}")
    elif least is not None:
        parts.append(f"of at least {least}")
    elif above is not None:
        parts.append(f"above {above}")
    if "multiple_of" in limits:
        parts.append(f"divisible by {limits['multiple_of']}")
    return "".join(f" {part}" for part in parts)


# --- annotations ------------------------------------------------------------------------------------------------------


def _at(model: type[Settings], place: tuple) -> tuple[Any, str]:
    """Annotation and description of the value at a place in the settings."""
    annotation, described = model, ""
    for part in place:
        inner = _bare(annotation)
        if _is_model(inner):
            field = inner.model_fields[part]
            annotation, described = _annotation(field), field.description or ""
        elif get_origin(inner) is dict:
            annotation = get_args(inner)[0 if place[-1] == "[key]" and part == place[-2] else 1]
        elif get_origin(inner) is list:
            annotation = get_args(inner)[0]
    return annotation, described


def _annotation(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata, None]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _metadata(annotation: Any) -> list[object]:
    """Return what ``Annotated`` adds to a type, with fields taken apart."""
    if get_origin(annotation) is not Annotated:
        return []
    found = []
    for one in get_args(annotation)[1:]:
        found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found


def _choices(annotation: Any) -> tuple[object, ...]:
    annotation = _bare(annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()
