"""Claims about the files that a host of the repository reads: continuous integration, the workflow catalogue."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_ci_checks_the_oldest_and_the_newest_supported_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["check"]
    assert job["strategy"]["matrix"]["python"] == [project["requires-python"].removeprefix(">="), "3.13"]
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    assert all(f"make {target}" in commands for target in ("lint", "docs", "demo", "test", "test-slurm"))


def test_the_workflow_catalogue_learns_how_to_deploy_the_software():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    deployment = usage["software-stack-deployment"]
    assert deployment["conda"] is any((ROOT / "envs").glob("*.yaml"))
    assert deployment["report"] is (ROOT / "report/workflow.rst").exists()
