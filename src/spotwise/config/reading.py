"""Reading of configuration files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from spotwise.errors import InputError
from spotwise.runtime.input_files import unreadable

# YAML's tag of `<<`, and the key with which Snakemake takes a configuration for a template of YTE, which runs Python
MERGE = "tag:yaml.org,2002:merge"
TEMPLATE = "__use_yte__"


class StrictLoader(yaml.SafeLoader):
    """Load YAML without Python objects and without duplicate keys, of which YAML would drop the first."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_config(path: str | Path) -> dict:
    """Read a configuration in YAML or JSON.

    Raises
    ------
    InputError
        For a missing or unreadable file, invalid YAML, a duplicate key, a tag, or no keys at the top level.
    """
    try:
        config = yaml.load(Path(path).read_text(encoding="utf-8-sig"), StrictLoader)
    except OSError as error:
        raise unreadable(Path(path), "configuration", error, "a configuration in YAML") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(path, f"line {line}", "no UTF-8", "YAML in UTF-8") from None
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from None
    except RecursionError:
        raise InputError(path, "content", "brackets or aliases without end", "plain YAML") from None
    if not isinstance(config, dict):
        raise InputError(path, "top level", type(config).__name__ if config else "nothing", "keys with values")
    if TEMPLATE in config:
        raise InputError(path, TEMPLATE, "a program", "a configuration that runs no Python of its own")
    return config


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Explain an error of the body, which another parser raised, by what :func:`read_config` says of the file."""
    try:
        yield
    except Exception:
        read_config(path)
        raise


def _syntax_error(path: str | Path, error: yaml.YAMLError) -> InputError:
    """Put an error of the YAML parser into one line, with the lines of the file where it is and where it began."""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark, context_mark = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    began = f", {error.context} from line {context_mark.line + 1}" if context_mark else ""
    expected = "blanks instead of the tab" if "'\\t'" in problem else "plain YAML, each key once"
    place = f"line {mark.line + 1}" if mark else "content"
    return InputError(path, place, problem.removeprefix("found ") + began, expected)


def type_overrides(config: dict, from_files: Mapping) -> None:
    """Give the values of the command line the types that YAML gives them in a file, in place.

    Snakemake reads ``--config seeds=[0]`` as a list of texts. Whole numbers, other numbers, ``true`` and ``false`` get
    their types; ``null`` stays a text, as it may be a name.

    Parameters
    ----------
    config
        The configuration of the run.
    from_files
        What its files say. Values that differ come from the command line.
    """
    for key, value in config.items():
        stated = from_files.get(key)
        if isinstance(value, dict) and isinstance(stated, Mapping):
            type_overrides(value, stated)
        elif value != stated:
            config[key] = _typed(value)


def _typed(value: object) -> object:
    """Return a value of the command line with the types that it would have in a YAML file.

    Snakemake reads ``--config seeds=[0]`` as a list of text. Within lists and mappings, this turns text that looks like
    a number, ``true`` or ``false`` into that. ``null`` stays text because it may be a name.
    """
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if not isinstance(value, str):
        return value
    for number in (int, float):
        with suppress(ValueError):
            return number(value)
    return {"true": True, "false": False}.get(value, value)
