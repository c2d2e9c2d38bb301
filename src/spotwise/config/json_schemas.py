"""JSON schemas of the configuration, options, sample sheet and slides, for editors and other tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import create_model
from pydantic.json_schema import GenerateJsonSchema

from spotwise.config.settings import Config
from spotwise.data.sample_sheet import Sample
from spotwise.data.slide_sheet import SlideToPredict
from spotwise.models.registry import REGISTRY, options_class
from spotwise.runtime.files import write_text
from spotwise.runtime.validation import UNSET, Settings

HEAD = "# Written by `make schemas` from the definitions in src/spotwise. Do not edit.\n"


class _Schema(GenerateJsonSchema):
    """JSON schemas without titles of fields, and without defaults of settings that have none."""

    def field_title_should_be_set(self, schema: Mapping) -> bool:
        return False

    def default_schema(self, schema: Mapping) -> dict:
        return (
            self.generate_inner(schema["schema"]) if schema.get("default") is UNSET else super().default_schema(schema)
        )

    def dict_schema(self, schema: Mapping) -> dict:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found


def schemas() -> dict[str, dict]:
    """Return the JSON schema of each file in ``schemas/`` by its name."""
    fields = {name: (options_class(name), ...) for name, entry in REGISTRY.items() if entry.kind != "control"}
    options = create_model("Options", __base__=Settings, __doc__="Options of each method, by its class.", **fields)
    models = {"config": Config, "options": options, "samples": Sample, "slides": SlideToPredict}
    return {f"{name}.schema.yaml": _of(model) for name, model in models.items()}


def _of(model: type[Settings]) -> dict:
    dialect = {"$schema": GenerateJsonSchema.schema_dialect}
    return dialect | model.model_json_schema(schema_generator=_Schema)


def write(folder: str | Path) -> None:
    """Write all schemas into a folder as YAML."""
    for name, schema in schemas().items():
        write_text(Path(folder) / name, as_yaml(schema))


def as_yaml(schema: Mapping) -> str:
    """Lay a schema out as the text of its file."""
    return HEAD + yaml.safe_dump(dict(schema), sort_keys=False, allow_unicode=True, width=110)
