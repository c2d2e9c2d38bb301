"""Claims about the hash of code: it follows imports and ignores documentation."""

import subprocess
import sys

import pytest

from spotwise.runtime import code_version as versions
from spotwise.runtime.code_version import code_version, import_closure, module_hash, package_modules

CODE = '''\
"""A module."""

import math

FACTOR = 2.0


class Scale:
    """What it is."""

    by: float = FACTOR
    to: int = Field(3, ge=0, description="a size")

    def of(self, x, power=1):
        """What it does."""
        # why
        if x > 0:
            return self.by * math.pow(x, power)
        return "none"


async def later():
    """Only a docstring."""
'''

# A package and its scripts: `train` imports `loop`, which imports `files` inside a function and `Batch` from a module
# of the package `models`; `draw` imports `style`, which imports `loop` for type checkers alone
FILES = {
    "package/__init__.py": "__version__ = '1'\n",
    "package/files.py": "def write():\n    pass\n",
    "package/loop.py": "from spotwise.models.base import Batch\n\n\ndef run():\n    from spotwise import files\n",
    "package/models/__init__.py": "",
    "package/models/base.py": "class Batch:\n    size = 1\n",
    "package/models/bleep.py": "from spotwise.models.base import Batch\n",
    "package/models/stnet.py": "import spotwise.models.base\n",
    "package/pages/__init__.py": "def render():\n    pass\n",
    "package/pages/page.html": "<p>",
    "package/style.py": (
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from spotwise import loop\n\nCOLOUR = 'red'\n"
    ),
    "scripts/train.py": '"""Train."""\n\nimport torch\nfrom spotwise.loop import run\n',
    "scripts/draw.py": "import spotwise.style as style\n",
    "scripts/page.py": "from spotwise.pages import render\n",
}


def forget():
    for function in (versions.code_version, versions.module_hash, versions._read):
        function.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a small package named spotwise, with scripts."""
    for name, code in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.setattr(versions, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(versions, "SCRIPTS", tmp_path / "scripts")
    forget()
    yield tmp_path
    forget()


def scripts_changed(package, name, code):
    """Scripts whose version changes when a file is replaced, those of a method among them."""
    runs = {"train": ("train",), "draw": ("draw",), "page": ("page",)}
    runs |= {method: ("train", f"spotwise.models.{method}") for method in ("bleep", "stnet")}
    before = {run: code_version(*arguments) for run, arguments in runs.items()}
    (package / name).write_text(code, encoding="utf-8")
    forget()
    return {run for run, arguments in runs.items() if code_version(*arguments) != before[run]}


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("package/loop.py", FILES["package/loop.py"] + "EPOCHS = 2\n", {"train", "bleep", "stnet"}),  # direct
        ("package/models/base.py", "class Batch:\n    size = 2\n", {"train", "bleep", "stnet"}),  # indirect
        ("package/files.py", "def write():\n    return 1\n", {"train", "bleep", "stnet"}),  # inside a function
        ("package/models/__init__.py", "x = 1\n", {"train", "bleep", "stnet"}),  # the package of an imported module
        ("package/__init__.py", "__version__ = '2'\n", {"train", "bleep", "stnet", "draw", "page"}),
        ("package/style.py", FILES["package/style.py"].replace("red", "blue"), {"draw"}),
        ("package/models/bleep.py", FILES["package/models/bleep.py"] + "x = 1\n", {"bleep"}),  # by name
        ("package/models/stnet.py", FILES["package/models/stnet.py"] + "x = 1\n", {"stnet"}),
        ("package/pages/page.html", "<div>", {"page"}),  # data of a package
        ("package/loop.py", '"""Say more."""\n\n# and why\n' + FILES["package/loop.py"], set()),
        ("package/unused.py", "x = 1\n", set()),
        ("scripts/draw.py", FILES["scripts/draw.py"] + "style.COLOUR\n", {"draw"}),
        ("scripts/draw.py", '"""Draw."""\n# why\n' + FILES["scripts/draw.py"], set()),
    ],
)  # fmt: skip
def test_a_change_reaches_every_script_that_imports_the_module_and_no_other(package, name, code, expected):
    assert scripts_changed(package, name, code) == expected


def test_a_closure_holds_what_is_imported_at_run_time(package):
    assert import_closure("spotwise.loop") == {
        "spotwise", "spotwise.loop", "spotwise.files", "spotwise.models", "spotwise.models.base"
    }  # fmt: skip
    assert import_closure("spotwise.style") == {"spotwise.style"}


def test_import_cycles_end(package):
    (package / "package/files.py").write_text("import spotwise.loop\n")
    assert {"spotwise.loop", "spotwise.files"} <= import_closure("spotwise.files")


def test_a_closure_holds_every_module_that_python_loads():
    code = "import sys; import spotwise.training.loop; print(*sys.modules)"
    environment = {"PYTHONPATH": str(versions.PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] == "spotwise"}
    assert len(loaded) > 10
    assert loaded <= import_closure("spotwise", "spotwise.training", "spotwise.training.loop")


def test_all_modules_are_listed():
    modules = package_modules()
    assert {"spotwise", "spotwise.errors", "spotwise.runtime", "spotwise.runtime.code_version"} <= set(modules)
    assert len(modules) == len(list(versions.PACKAGE.rglob("*.py")))


# --- hash of a module -------------------------------------------------------------------------------------------------


@pytest.fixture
def hash_of(package):
    """Hash of a module with the given code."""

    def write_and_hash(code):
        (package / "package/one.py").write_text(code, encoding="utf-8")
        forget()
        return module_hash("spotwise.one")

    return write_and_hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another\n\nstory."""'),
        ('"""A module."""\n', ""),
        ('"""What it is."""', "'''What it was.'''"),
        ('        """What it does."""\n', ""),
        ('"""Only a docstring."""', '"""Still only a docstring."""'),
        ('description="a size"', 'description="another size"'),
        (', description="a size"', ""),
        ("# why", "# because"),
        ("        # why\n", "\n\n"),
        ("FACTOR = 2.0", "FACTOR=(2.0)  # units"),
        ('return "none"', "return 'none'"),
        ("math.pow(x, power)", "math.pow(\n                x,\n                power,\n            )"),
    ],
)
def test_documentation_and_layout_do_not_change_the_hash(hash_of, old, new):
    assert CODE.count(old) == 1
    assert hash_of(CODE) == hash_of(CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "2.5"),
        ("2.0", "2"),
        ("x > 0", "x >= 0"),
        ("power=1", "power=2"),
        ("Field(3", "Field(4"),
        ("ge=0", "ge=1"),
        ("self.by * ", "self.by + "),
        ("math.pow(x, power)", "math.pow(power, x)"),
        ('return "none"', 'return "None"'),
        ('        return "none"\n', ""),
        ("import math", "import cmath as math"),
        ("class Scale:", "class Scale(dict):"),
        ("    def of", "    @staticmethod\n    def of"),
        ("async def later", "def later"),
        ("FACTOR = 2.0\n", "FACTOR = 2.0\nFACTOR = 3.0\n"),
    ],
)
def test_a_changed_line_changes_the_hash(hash_of, old, new):
    assert CODE.count(old) == 1
    assert hash_of(CODE) != hash_of(CODE.replace(old, new))


def test_docstrings_are_found_wherever_a_definition_stands(hash_of):
    nested = """
try:
    import a
except ImportError:
    def f():
        '{}'
for x in y:
    class C:
        '{}'
"""
    assert hash_of(nested.format("a", "b")) == hash_of(nested.format("c", "d"))


def test_a_new_entry_of_the_registry_changes_no_hash_but_its_code_does(hash_of):
    registry = 'REGISTRY: Mapping[str, Entry] = {"Ridge": Entry("frozen")}\n\n\ndef load(name):\n    return name\n'
    longer = registry.replace("}", ', "Mine": Entry("regression")}')
    assert hash_of(registry) == hash_of(longer)
    assert hash_of(registry) != hash_of(registry.replace("return name", "return name + name"))
