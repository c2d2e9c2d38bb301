"""What a result was made by: a hash of the code that matters, and the versions of the libraries."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


@cache
def code_version(*modules: str) -> str:
    """Hash of the syntax trees of package modules, docstrings and comments left out.

    Snakemake does not see edits in imported modules; as a rule's parameter this hash makes a changed line rerun what
    uses it, while a mended docstring costs nothing.

    Parameters
    ----------
    modules
        Paths inside the package without suffix, e.g. ``"training"``, ``"models/cmrcnet"``.
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        digest.update(f"{module}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:16]


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages`` by name."""
    return {package: metadata.version(package) for package in packages}
