"""Claims about what results are made by: the hash of the code, the locked versions, the environments of the jobs."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spotwise.models.registry import REGISTRY
from spotwise.runtime import provenance
from spotwise.runtime.provenance import code_version, versions

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

# --- the hash of the code ---------------------------------------------------------------------------------------------

CODE = '''\
"""A module."""

import math

FACTOR = 2.0


class Scale:
    """What it is."""

    by: float = FACTOR

    def of(self, x, power=1):
        """What it does."""
        # why
        if x > 0:
            return self.by * math.pow(x, power)
        return "none"


async def later():
    """Only a docstring."""
'''


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    """Hash of a package whose module ``one`` holds the given code."""
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()

    def write_and_hash(code, *modules, module="one"):
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        code_version.cache_clear()
        provenance._code.cache_clear()
        return code_version(*(modules or (module,)))

    yield write_and_hash
    code_version.cache_clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another\n\nstory."""'),
        ('"""A module."""\n', ""),
        ('"""What it is."""', "'''What it was.'''"),
        ('        """What it does."""\n', ""),
        ('"""Only a docstring."""', '"""Still only a docstring."""'),
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


def test_only_the_named_modules_count_and_in_any_order(hash_of):
    hash_of("x = 1", module="models/two")
    both = hash_of(CODE, "one", "models/two")
    assert both == hash_of(CODE, "models/two", "one")
    alone = hash_of(CODE)
    assert alone != both
    hash_of("x = 2", module="models/two")
    assert hash_of(CODE) == alone
    assert hash_of(CODE, "one", "models/two") != both


def test_the_same_code_in_another_module_is_another_hash(hash_of):
    assert hash_of(CODE, module="one") != hash_of(CODE, module="two")


def test_versions_are_those_installed():
    assert versions("numpy", "h5py") == {"numpy": metadata.version("numpy"), "h5py": metadata.version("h5py")}


def test_every_module_that_a_rule_names_exists():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    named = re.findall(r"(?:code_version|method_code)\(((?:\"[^\"]+\"(?:, )?)+)", text)
    modules = {module for group in named for module in re.findall(r'"([^"]+)"', group)}
    assert len(modules) > 10
    assert not [module for module in modules if not (SOURCE / "spotwise" / f"{module}.py").is_file()]


# --- the lock file ----------------------------------------------------------------------------------------------------


def locked():
    """Every entry of requirements.lock: its requirement and how many hashes it has."""
    entries = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for entry in filter(None, map(str.strip, entries)):
        requirement, *hashes = re.split(r"\s+--hash=", entry)
        yield Requirement(requirement), hashes


def pins(python):
    """Locked versions by name, for one Python on Linux."""
    where = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux"}
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in locked()
        if requirement.marker is None or requirement.marker.evaluate(where)
    }


def test_every_locked_package_has_one_version_and_hashes():
    for requirement, hashes in locked():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_the_lock_names_no_index():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"index|find-links|trusted", re.sub(r"--hash=\S+", "", text))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_everything_that_is_asked_for_is_locked(python):
    asked = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = {canonicalize_name(Requirement(line).name) for line in asked if line.strip() and line[0] != "#"}
    assert len(names) > 20
    assert names <= set(pins(python))


# --- the environments of `--software-deployment-method conda` ---------------------------------------------------------

ENVIRONMENTS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))
# Needed without an import of ours: by openslide-python, timm, tifffile (JPEG), pandas (Parquet) and scanpy (Leiden)
COMPANIONS = {"openslide-bin", "torchvision", "imagecodecs", "pyarrow", "igraph"}
# Imported by functions that no job of the environment calls: figures ask spotwise.data.hest for metadata, not for downloads,
# and tables spotwise.models.registry for options, not for weights; patches are read, not cut, where torch is; the approximate
# search is for users alone
UNCALLED = {
    "figures": {"huggingface-hub", "safetensors"},
    "data": {"pynndescent"},
    "torch": {"pynndescent", "tifffile"},
}


def environment(name):
    """Conda's part and pip's part of an environment."""
    content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(part["pip"] for part in content if isinstance(part, dict))
    return [part for part in content if isinstance(part, str)], dict(line.split("==") for line in pip)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_pin_the_locked_versions(name):
    conda, pip = environment(name)
    assert conda == ["python=3.12", "pip"]
    known = pins("3.12")
    assert pip == {package: known[package] for package in pip}


def jobs():
    """Rule, environment and script of every rule that has a script."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    for rule in re.split(r"^ *(?=rule \w+:)", text, flags=re.MULTILINE)[1:]:
        script = re.search(r"workflow_scripts/(\w+)\.py", rule)
        if script:
            yield rule.split()[1].rstrip(":"), re.search(r"envs/(\w+)\.yaml", rule)[1], script[1]


def imported(path):
    """Modules that a file imports when it runs, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module):
    """The file of one of our own modules, or None."""
    path = SOURCE.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


# Which methods a script loads by name
LOADED = {
    "train": "retrieval",
    "build_bank": "retrieval",
    "fit_frozen": "frozen",
    "predict_frozen": "frozen",
    "predict_controls": "control",
}


def third_party(script):
    """Distributions that a script needs, by everything it imports of ours and theirs."""
    entries = REGISTRY.values()
    ahead = [f"spotwise.models.registry.{entry.module}" for entry in entries if entry.kind == LOADED.get(script)]
    ahead += imported(ROOT / f"workflow_scripts/{script}.py")
    seen, needed = set(), set()
    distributions = metadata.packages_distributions()
    while ahead:
        module = ahead.pop()
        top = module.partition(".")[0]
        if module in seen or top in sys.stdlib_module_names:
            continue
        seen.add(module)
        if top != "spotwise":
            needed.add(canonicalize_name(distributions[top][0]))
        elif file_of(module):
            ahead += imported(file_of(module))
    return needed


def test_every_script_belongs_to_a_rule_with_an_environment():
    scripts = {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}
    assert {script for _, _, script in jobs()} == scripts
    assert set(LOADED) <= scripts
    assert {name for _, name, _ in jobs()} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_holds_what_its_jobs_import_and_no_more(name):
    needed = set().union(*(third_party(script) for _, of, script in jobs() if of == name))
    assert {"data": "scanpy", "torch": "torch", "figures": "matplotlib"}[name] in needed
    assert needed - UNCALLED.get(name, set()) == set(environment(name)[1]) - COMPANIONS


def test_the_package_never_imports_snakemake():
    for path in (SOURCE / "spotwise").rglob("*.py"):
        assert not [module for module in imported(path) if module.split(".")[0] == "snakemake"], path
