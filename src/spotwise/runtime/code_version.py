"""Hash of the code behind a result, from the import closure of the script that computes it.

Snakemake sees edits of a script, not of the modules it imports. As a parameter of a rule, this hash reruns what uses a
changed line, while a changed docstring or comment costs nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NAME = "spotwise"
PACKAGE = Path(__file__).resolve().parents[1]
SCRIPTS = PACKAGE.parents[1] / "workflow_scripts"


@cache
def code_version(script: str, *modules: str) -> str:
    """Hash the syntax trees of all package modules that a script imports, directly or through others.

    Parameters
    ----------
    script
        Name of a script in ``workflow_scripts/``, without suffix.
    modules
        Dotted names of modules that the script imports by name at run time, such as the one of a method.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    starts = {*_imports(SCRIPTS / f"{script}.py"), *modules}
    digest = hashlib.sha256()
    for module in sorted(import_closure(*starts)):
        digest.update(f"{module}\n{module_hash(module)}\n".encode())
    return digest.hexdigest()[:16]


def import_closure(*modules: str) -> set[str]:
    """Return package modules by dotted name, with everything of the package that they import.

    Imports inside functions count. Imports for type checkers alone do not.
    """
    found: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += _imports(_path(module))
    return found


@cache
def module_hash(module: str) -> str:
    """Hash a module's syntax tree, docstrings and comments left out."""
    tree = _tree(_path(module))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def package_modules() -> list[str]:
    """Return the dotted names of all modules of the package, sorted."""
    return sorted(_name(path) for path in PACKAGE.rglob("*.py"))


@cache
def _imports(path: Path) -> frozenset[str]:
    """Modules of the package that a file imports, and the packages they lie in."""
    found: set[str] = set()
    for node in _executed(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # a name may be a module of the package or something inside it
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == NAME:
                found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return frozenset(name for name in found if _path(name).is_file())


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below ``node``, except what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    inside = PACKAGE.joinpath(*module.split(".")[1:])
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join([NAME, *(part for part in parts if part != "__init__")])
