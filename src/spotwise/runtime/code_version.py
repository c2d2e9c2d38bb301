"""Hash of the code behind a result, from the import closure of the script that computes it.

Snakemake notices edits of a script, even of a comment, but not of the modules that the script imports. With this hash
as a parameter of its rule, a changed line reruns what uses it, while a changed docstring, comment or description of a
setting costs nothing. The profiles turn Snakemake's own trigger ``code`` off.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

NAME = "spotwise"
PACKAGE = Path(__file__).resolve().parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")  # of statements, in the fields of a syntax tree
SCRIPTS = PACKAGE.parents[1] / "workflow_scripts"
# Lists of what there is. Everything imports the registry, and a new entry changes no result of the others
LISTS = {"REGISTRY"}


class Source(NamedTuple):
    """Hash of a file's code, and the modules of the package that it imports."""

    sha256: str
    imports: frozenset[str]


@cache
def code_version(script: str, *modules: str) -> str:
    """Hash a script and the package modules that it imports to 16 hexadecimal digits.

    ``modules`` are dotted names of those that the script imports by name at run time, such as that of a method.
    """
    source = _read(SCRIPTS / f"{script}.py")
    digest = hashlib.sha256(source.sha256.encode())
    for module in sorted(import_closure(*source.imports, *modules)):
        digest.update(f"{module}\n{module_hash(module)}\n".encode())
    return digest.hexdigest()[:16]


def import_closure(*modules: str) -> set[str]:
    """Return package modules by dotted name, with everything of the package that they import.

    Imports inside functions count. Imports under ``if TYPE_CHECKING`` do not.
    """
    found: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += _read(_path(module)).imports
    return found


@cache
def module_hash(module: str) -> str:
    """Hash a module's syntax tree without docstrings and comments.

    The data files in a package's folder, such as templates, count as part of the package.
    """
    path = _path(module)
    sha256 = _read(path).sha256
    if path.name != "__init__.py":
        return sha256
    data = [file for file in sorted(path.parent.iterdir()) if file.is_file() and file.suffix not in (".py", ".pyc")]
    for file in data:
        sha256 = hashlib.sha256(f"{sha256}\n{file.name}\n".encode() + file.read_bytes()).hexdigest()
    return sha256


def package_modules() -> list[str]:
    """Return the dotted names of all modules of the package, sorted."""
    places = (path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py"))
    return sorted(".".join([NAME, *(part for part in parts if part != "__init__")]) for parts in places)


@cache
def _read(path: Path) -> Source:
    tree = ast.parse(path.read_bytes())
    imports: set[str] = set()
    pending: list[tuple[ast.AST, bool]] = [(tree, True)]
    while pending:
        node, executed = pending.pop()
        if executed:
            imports.update(_imported_modules(node))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.Module):
            node.body = [one for one in node.body if not (isinstance(one, ast.AnnAssign) and _name(one) in LISTS)]
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):  # of a setting: Field(description=...)
            node.value.keywords = [word for word in node.value.keywords if word.arg != "description"]
        executed = executed and not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
        pending += [(child, executed) for block in BLOCKS for child in getattr(node, block, ())]
    return Source(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(imports))


def _name(assignment: ast.AnnAssign) -> str:
    return ast.unparse(assignment.target)


def _imported_modules(statement: ast.AST) -> Iterator[str]:
    """Yield the package modules that a statement imports, and the packages that contain them."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        # an imported name may be a module or something inside one
        names = [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
    else:
        return
    for name in names:
        parts = name.split(".")
        if parts[0] == NAME:
            prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
            yield from (prefix for prefix in prefixes if _path(prefix).is_file())


def _path(module: str) -> Path:
    inside = PACKAGE.joinpath(*module.split(".")[1:])
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
