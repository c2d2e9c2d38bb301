"""A pipeline of two slides that runs as a process of its own, to be watched, killed and started again."""

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
LAUNCHED: list["Running"] = []  # to be ended should a test fail


def small(folder: Path, repository: Path, **training: object) -> "Running":
    """Two patients with a slide of 7 x 7 spots, CMRCNet in its smallest shape, the patient protocol."""
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
    del config["structure"]
    return Running(folder, config, repository)


def own_copy(folder: Path) -> Path:
    """A copy of the workflow that nobody edits while it runs."""
    folder.mkdir(exist_ok=True)
    copy_workflow(folder)
    shutil.copytree(REPOSITORY / "profiles", folder / "profiles")
    return folder


class Running(Pipeline):
    """The same, and what is running of it."""

    def launch(self, *arguments: str, cores: int = 2) -> subprocess.Popen:
        """Start it in a process group of its own; what it prints goes to ``output.txt``."""
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
        """Run it to its end, unlocking it first where a killed run has left a lock."""
        self.unlock()
        code = self.launch(*arguments, cores=cores).wait()
        assert code == 0, (self.folder / "output.txt").read_text()[-3000:]

    def unlock(self) -> bool:
        """What Snakemake asks for after it was killed; whether there was need."""
        needed = any((self.folder / ".snakemake/locks").glob("*"))
        if needed:
            done = self.snakemake("--unlock", **QUICK)
            assert done.returncode == 0, done.stdout
        return needed

    def jobs(self, rule: str | None = None) -> list[psutil.Process]:
        """Scripts of this pipeline that are running, orphans included."""
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
        """A job of ``rule``, as soon as there is one; ``None`` when the run ends without any."""
        while True:
            if jobs := self.jobs(rule):
                return jobs[0]
            if run.poll() is not None:
                return None
            time.sleep(0.02)

    def seconds(self, rule: str) -> float:
        """How long a job of ``rule`` took, by its benchmark; a second where it keeps none."""
        benchmarks = self.results / "benchmarks"
        path = next(benchmarks.glob(f"{rule}/**/*.tsv"), benchmarks / f"{rule}.tsv")
        return float(path.read_text().splitlines()[1].split("\t")[0]) if path.exists() else 1.0
