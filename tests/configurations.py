"""Configurations to check, and what the check says of them."""

from pathlib import Path

import pytest
import yaml

from spotwise.config import prepare
from spotwise.errors import InputError

ROOT = Path(__file__).parents[1]
EXAMPLES = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


def content(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def at(config, path, value):
    """Set the value at a dotted path of ``config``; `-key` as the last part removes a key."""
    *parents, last = path.split(".")
    place = config
    for part in parents:
        place = place.setdefault(part, {})
    if last.startswith("-"):
        place.pop(last[1:])
    else:
        place[last] = value
    return config


def complaint(config):
    """Return the one line that refuses ``config``."""
    with pytest.raises(InputError) as error:
        prepare(config, "my.yaml")
    told = str(error.value)
    assert "\n" not in told
    return told
