"""spotwise: spatially resolved gene expression predicted from H&E slides.

The package computes; the workflow (``Snakefile``, ``rules/``, ``workflow_scripts/``) decides what is computed when.
Importing ``spotwise`` alone imports nothing heavy.
"""

__version__ = "0.1.0"
