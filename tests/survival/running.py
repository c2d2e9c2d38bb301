"""A pipeline of two slides that runs in its own process and can be killed and restarted."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from workflow.pipeline import REPOSITORY, Pipeline, copy_workflow, example

SCRIPT = re.compile(r"\.snakemake/scripts/tmp\w+\.(\w+)\.py$")
QUICK = {"OMP_NUM_THREADS": "1"}
LAUNCHED: list["Running"] = []  # ended if a test fails


def small(folder: Path, repository: Path, **training: object) -> "Running":
    """Make a pipeline of two patients with a slide of 7 x 7 spots each, a small CMRCNet, the patient protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    config = example("demo", folder)
    rows = [f"DEMO{number}\tdemo\tPatient {number}\n" for number in (1, 2)]
    (folder / "samples.tsv").write_text("sample\tcohort\tpatient\n" + "".join(rows))
    config |= {"samples": "samples.tsv", "protocols": ["patient"], "controls": ["TrainMean"], "encoders": {}}
    config["data"]["root"] = "data"
    config["data"]["generated"] |= {"spots_across": 7, "unlinked": []}
    config["expression"]["hvg_per_slide"] = 40
    config["evaluation"] = {"bootstrap": 100}
    config["training"] |= {"epochs": 12, "save_every_minutes": 1e-3} | training
    config["methods"] = {"CMRCNet": config["methods"]["CMRCNet"] | {"neighbours": [10]}}
    del config["structure"], config["predict"]
    return Running(folder, config, repository)


def own_copy(folder: Path) -> Path:
    """Copy the workflow, so that edits do not disturb its runs."""
    folder.mkdir(exist_ok=True)
    copy_workflow(folder)
    shutil.copytree(REPOSITORY / "profiles", folder / "profiles")
    return folder


class Running(Pipeline):
    """A pipeline and its running processes."""

    def launch(self, *arguments: str, cores: int = 2) -> subprocess.Popen:
        """Start Snakemake in a new process group, with output to ``output.txt``."""
        with (self.folder / "output.txt").open("a") as output:
            LAUNCHED.append(self)
            return subprocess.Popen(
                self.command("--cores", str(cores), *arguments),
                cwd=self.repository,
                env=os.environ | QUICK,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, *arguments: str, cores: int = 2) -> None:
        """Run to the end, after removing the lock of a killed run."""
        self.unlock()
        code = self.launch(*arguments, cores=cores).wait()
        assert code == 0, (self.folder / "output.txt").read_text()[-3000:]

    def unlock(self) -> bool:
        """Remove the lock of a killed Snakemake; return whether there was one."""
        needed = any((self.folder / ".snakemake/locks").glob("*"))
        if needed:
            done = self.snakemake("--unlock", **QUICK)
            assert done.returncode == 0, done.stdout
        return needed

    def jobs(self, rule: str | None = None) -> list[psutil.Process]:
        """List the running scripts of this pipeline, orphans included."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            script = next((part for part in process.info["cmdline"] or [] if SCRIPT.search(part)), "")
            if script.startswith(f"{self.folder}/") and rule in (None, SCRIPT.search(script)[1]):
                found.append(process)
        return found

    def end(self) -> None:
        """Kill every process that works in this folder."""
        for process in psutil.process_iter(["cmdline"]):
            if any(f"{self.folder}/" in f"{part}/" for part in process.info["cmdline"] or []):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def wait_for(self, rule: str, run: subprocess.Popen) -> psutil.Process | None:
        """Wait for a job of ``rule``; return ``None`` if the run ends without one."""
        while True:
            if jobs := self.jobs(rule):
                return jobs[0]
            if run.poll() is not None:
                return None
            time.sleep(0.02)

    def seconds(self, rule: str) -> float:
        """Return how long a job of ``rule`` took by its benchmark, or 1 s without one."""
        benchmarks = self.results / "benchmarks"
        path = next(benchmarks.glob(f"{rule}/**/*.tsv"), benchmarks / f"{rule}.tsv")
        return float(path.read_text().splitlines()[1].split("\t")[0]) if path.exists() else 1.0
