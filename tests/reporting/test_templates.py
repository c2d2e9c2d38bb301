"""Claims about the HTML templates."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from spotwise.reporting import templates
from spotwise.runtime.code_version import import_closure

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(templates.__file__).parent


def test_every_template_is_installed_with_the_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["spotwise.reporting.templates"]
    files = [path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"]
    assert {"base.html", "paper_vs_ours.html", "structure_page.html"} <= set(files)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in files)


def test_pages_depend_on_the_templates():
    for module in ("spotwise.reporting.structure_page", "spotwise.reporting.tables.paper_vs_ours"):
        assert templates.__name__ in import_closure(module)  # whose hash covers its data files
    assert templates.__name__ not in import_closure("spotwise.reporting.tables.mean_tables")


def test_a_missing_value_is_an_error_and_not_an_empty_text():
    with pytest.raises(UndefinedError, match="coverage"):
        templates.render("paper_vs_ours.html", legend=())
