"""Runs of the pipeline as a user starts them, each in its own folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
WORKFLOW = ("Snakefile", "config.yaml", "requirements.in", "requirements.lock", "rules", "envs", "schemas")
WORKFLOW += ("report", "resources", "src", "workflow_scripts")


class Pipeline:
    """A working folder with a configuration, which may be changed between runs.

    ``repository`` is where the workflow lies.
    """

    def __init__(self, folder: Path, config: dict, repository: Path = REPOSITORY):
        self.folder = folder
        self.config = config
        self.repository = repository

    def command(self, *arguments: str) -> list[str]:
        """Write the configuration and return the Snakemake command for it."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(self.repository / "Snakefile")]
        return [*command, "--directory", str(self.folder), "--configfile", str(self.folder / "config.yaml")]

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run Snakemake and return its exit status and output, including errors and progress."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start Snakemake as the leader of a new process group."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.repository,
            env=os.environ | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Snakemake, expect success and return its output."""
        done = self.snakemake("--cores", "2", *arguments, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the number of jobs per rule in a dry run."""
        done = self.snakemake(*arguments, "--dry-run", "--quiet", "rules")
        assert done.returncode == 0, done.stdout
        lines = [line.split() for line in done.stdout.splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit() and line[0] != "total"}

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.config["run"]


def example(name: str, folder: Path) -> dict:
    """Read an example configuration, with an absolute sample sheet and its data under ``folder``."""
    path = REPOSITORY / ("config.yaml" if name == "paper" else f"configs/{name}.yaml")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "samples" in config:
        config["samples"] = str(REPOSITORY / config["samples"])
        config["data"]["root"] = str(folder / "data")
    return config


def copy_workflow(folder: Path) -> Path:
    """Copy everything that determines the results of a run."""
    for name in WORKFLOW:
        here, there = REPOSITORY / name, folder / name
        shutil.copytree(here, there) if here.is_dir() else shutil.copy(here, there)
    return folder
