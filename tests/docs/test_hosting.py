"""Claims about the files that a host of the repository reads: continuous integration, the workflow catalogue."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_ci_checks_the_oldest_and_the_newest_supported_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"].strip() for job in jobs.values() for step in job["steps"] if "run" in step]
    oldest = project["requires-python"].removeprefix(">=")
    assert f'make test-pythons PYTHONS="python{oldest} python3.13"' in commands
    assert {"make lint", "make docs", "make demo", "make test"} <= set(commands)


def test_the_workflow_catalogue_learns_how_to_deploy_the_software():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    deployment = usage["software-stack-deployment"]
    assert deployment["conda"] is any((ROOT / "envs").glob("*.yaml"))
    assert deployment["report"] is (ROOT / "report/workflow.rst").exists()
