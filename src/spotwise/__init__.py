"""spotwise: spatially resolved gene expression predicted from H&E slides.

The package computes; the workflow (``Snakefile``, ``rules/``, ``workflow_scripts/``) decides what is computed when.
Importing ``spotwise`` alone imports nothing heavy.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = ["__version__", "load_model", "read_prediction"]

HOMES = {
    "load_model": "spotwise.inference.slide_prediction",
    "read_prediction": "spotwise.inference.prediction_files",
}


def __getattr__(name: str) -> object:
    """Import a function when it is first used."""
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
