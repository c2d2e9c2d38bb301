"""HTML templates, one per page, which hash with this package (`runtime.code_version`)."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **content: object) -> str:
    """Render a template of this folder with all text escaped."""
    return ENVIRONMENT.get_template(template).render(content) + "\n"
