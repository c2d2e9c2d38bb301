"""JSON schemas against the definitions, by an implementation of JSON Schema."""

import copy
import subprocess
import sys

import jsonschema
import pytest

from configurations import EXAMPLES, ROOT, at, content
from spotwise.config import json_schemas, read_config
from spotwise.config.settings import Config
from spotwise.errors import InputError
from spotwise.runtime.validation import validated

SCHEMAS = json_schemas.schemas()


def subschemas(schema, path=()):
    """Yield every part of a schema with its place."""
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            if key not in ("default", "enum", "required"):
                yield from subschemas(value, (*path, key))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from subschemas(value, (*path, number))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_are_those_of_the_definitions(name):
    assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == json_schemas.as_yaml(SCHEMAS[name])


def test_the_folder_holds_no_other_schema():
    assert {path.name for path in (ROOT / "schemas").iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_describe_every_key_close_every_object_and_keep_their_own_rules(name):
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    keys = 0
    for path, part in subschemas(schema):
        if path[:1] == ("anyOf",):  # which keys must stand together; they are described among the properties
            continue
        if len(path) > 1 and path[-2] == "properties" and name != "options.schema.yaml":
            keys += 1
            assert part.get("description"), f"{path} has no description"
        if path[-1:] != ("properties",) and "properties" in part:
            assert part.get("additionalProperties") is False, f"{path} takes any key"
            assert part.get("description"), f"{path} has no description"
        if path[-1:] != ("properties",) and "default" in part:
            jsonschema.Draft202012Validator(part | {"$defs": schema.get("$defs", {})}).validate(part["default"])
    assert keys >= 5 or name == "options.schema.yaml"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path):
    jsonschema.Draft202012Validator(SCHEMAS["config.schema.yaml"]).validate(read_config(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("-run", None),
        ("run", "../elsewhere"),
        ("run", "a\n"),
        ("protocol", ["paper"]),
        ("protocols", []),
        ("protocols", ["paper", "paper"]),
        ("data.source", "hub"),
        ("data.root", "a{b}"),
        ("seeds", [-1]),
        ("training.epochs", 0),
        ("training.epochs", "3"),
        ("training.clip_norm", 0),
        ("training.momentum", 1),
        ("encoders", {"a/b": {"timm": "resnet18"}}),
        ("methods.CMRCNet.neighbours", [0]),
        ("methods.CMRCNet.training.device", "cpu"),
        ("cohorts", {}),
        ("cohorts.two.markers", ["A B"]),
        ("structure", {}),
        ("structure", {"spaces": ["Expression"], "labels": {"column": ""}}),
    ],
)
def test_schemas_refuse_what_the_definitions_refuse(small, path, value):
    validator = jsonschema.Draft202012Validator(SCHEMAS["config.schema.yaml"])
    validator.validate(copy.deepcopy(small))
    faulty = at(small, path, value)
    assert not validator.is_valid(faulty)
    with pytest.raises(InputError):
        validated(Config, faulty, "x")


def test_the_command_writes_them(tmp_path):
    json_schemas.write(tmp_path)
    assert {path.name: content(path) for path in tmp_path.iterdir()} == SCHEMAS


def test_a_file_in_place_of_the_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "schemas").write_text("")
    command = [sys.executable, "-m", "spotwise.config", "schema", "schemas"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "schemas: folder: found a file, expected a folder\n"
