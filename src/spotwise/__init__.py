"""spotwise: spatially resolved gene expression predicted from H&E slides.

The package computes; the workflow (``Snakefile``, ``rules/``, ``workflow_scripts/``) decides what is computed when.
Importing ``spotwise`` alone imports nothing heavy.
"""

import gc
import sys

__version__ = "0.1.0"


def in_script() -> bool:
    """Whether this process is a script of the workflow, which Snakemake gave its object ``snakemake``."""
    return hasattr(getattr(sys.modules.get("__main__"), "snakemake", None), "scriptdir")


if in_script():
    gc.disable()  # what it imports is no garbage, and looking for some takes 0.1 s; `spotwise.jobs.job` ends this
