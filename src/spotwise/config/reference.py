"""The configuration reference of the documentation, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from spotwise.config.settings import Config
from spotwise.models.encoder_names import CTRANSPATH, REPOSITORIES, RESNET50, RESNET50_STAGE3
from spotwise.models.registry import REGISTRY, options_class
from spotwise.runtime.validation import UNSET, Settings, plain, words_of

INTRODUCTION = """# Configuration reference

Every key of the configuration with its type, range and default. A dash as the default marks a key that may be left out,
`required` one that may not. This page is generated from the definitions that the configuration is checked against.
In paths, `~`, `$NAME` and `${NAME}` are expanded.
"""


def render() -> str:
    """Render the whole page: sections of the configuration, options of the methods, and pathology encoders."""
    parts = [INTRODUCTION, "## Sections\n"]
    for path, model in _sections(Config, ""):
        keys = {name: field for name, field in model.model_fields.items() if _is_row(field)}
        heading = f"### `{path}`" if path else "### Top level"
        parts += [f"{heading}\n", f"{model.__doc__}\n", _table(keys)] if keys else []
    parts.append("## Options of the methods\n\nKeys of `methods.<name>.options`, by the class that `model` names.\n")
    for name, entry in REGISTRY.items():
        if entry.kind != "control":
            options = options_class(name)
            parts += [f"### {name}\n", f"Kind: {entry.kind}. {options.__doc__}\n", _table(options.model_fields)]
    parts.append("## Pathology encoders\n\nNames for `encoders.<name>.timm` beside those of timm models.\n")
    rows = [f"| `{name}` | `{repository}` |" for name, repository in REPOSITORIES.items()]
    rows.append(f"| `{CTRANSPATH}` | `MahmoodLab/hest-bench` (dataset) |")
    rows.append(f"| `{RESNET50_STAGE3}` (of ImageNet, as in the HEST benchmark) | `timm/{RESNET50}` |")
    parts.append("\n".join(["| name | weights on the Hugging Face hub |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def _sections(model: type[Settings], path: str) -> Iterator[tuple[str, type[Settings]]]:
    """Yield every section of the configuration with its dotted path, in the order of a file."""
    yield path, model
    for name, field in model.model_fields.items():
        found = _section_in(field.annotation)
        if found is not None:
            section, below = found
            yield from _sections(section, f"{path}.{name}{below}".lstrip("."))


def _is_row(field: FieldInfo) -> bool:
    """Tell whether a key has a row in a table: it holds values, or a list of sections that has a default."""
    section = _section_in(field.annotation)
    return section is None or section[1] == "[]"


def _section_in(annotation: Any) -> tuple[type[Settings], str] | None:
    """Return the section that a key holds, and what of the path lies between."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation, ""
    between = {dict: ".<name>", list: "[]"}.get(get_origin(annotation))
    inner = get_args(annotation)[-1] if between else None
    return (inner, between) if isinstance(inner, type) and issubclass(inner, Settings) else None


def _table(fields: dict[str, FieldInfo]) -> str:
    lines = ["| key | type | default | description |", "|---|---|---|---|"]
    for name, field in fields.items():
        cells = (f"`{name}`", words_of(field), _default(field), field.description)
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is UNSET:
        return "–"
    written = yaml.safe_dump(plain(value), default_flow_style=True, width=1000)
    return f"`{written.splitlines()[0]}`"
