"""spotwise: spatially resolved gene expression predicted from H&E slides.

The package computes; the workflow (``Snakefile``, ``rules/``, ``workflow_scripts/``) decides what is computed when.
Importing ``spotwise`` alone imports nothing heavy.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> object:
    """Import :func:`load_model` when it is first used."""
    if name == "load_model":
        return import_module("spotwise.inference.slide_prediction").load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
