"""The reference page against the definitions."""

import re

import pytest

from configurations import EXAMPLES
from spotwise.config import read_config, reference
from spotwise.models.registry import REGISTRY, options_class

PAGE = reference.render()


def rows(heading):
    """Keys, types, defaults and descriptions under a heading."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    return {key.strip("`"): (kind, default, description) for key, kind, default, description in cells}


def keys(config, path=""):
    """Yield the dotted keys of a configuration as the page writes them, values of options left out."""
    for key, value in config.items():
        name = "<name>" if path in ("cohorts", "encoders", "methods", "external") else key
        place = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and not place.endswith(".options"):
            yield from keys(value, place)
        else:
            yield place


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_key_of_an_example_has_a_row(path):
    for key in keys(read_config(path)):
        section, _, last = key.rpartition(".")
        if section.startswith(("predict.slides", "predict.from")):  # a list of slides, and names of cohorts
            continue
        assert last in rows(f"`{section}`" if section else "Top level"), key


def test_a_row_gives_type_range_default_and_description():
    kind, default, description = rows("`training`")["batch_size"]
    assert (kind, default) == ("an integer of at least 2", "`64`")
    assert description.startswith("spots per step")
    assert rows("`data`")["source"][:2] == ("one of huggingface, local, generated", "required")
    assert rows("`structure`")["domains"][:2] == ("an integer of at least 2 or null", "`null`")
    assert rows("`methods.<name>`")["model"][1] == "–"


@pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if entry.kind != "control"])
def test_every_option_of_every_method_has_a_row(name):
    assert list(rows(name)) == list(options_class(name).model_fields)
    assert all(description for _, _, description in rows(name).values())
