"""Run the whole pipeline at the paper's size with tiny encoders, each job under its requested memory as a hard limit.

Three parts, each of which continues from what the one before has left in the folder: `generate` writes two cohorts in
HEST's layout (samples that are there are kept), `run` runs the workflow on them and notes every job, `tabulate` writes
SCALE.md. Without names all three run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from benchmarks import scale_data
from benchmarks.job_watch import Job, Watch, read_jobs, size_mb, write_job
from benchmarks.machine import Machine
from benchmarks.memory_groups import MemoryGroups
from benchmarks.scale_config import RUN, configuration
from benchmarks.scale_table import DISK_KINDS, Facts, job_times, markdown
from spotwise.runtime.files import write_json, write_text

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("SCALE.md")
PARTS = ("generate", "run", "tabulate")
TARGETS = ("all", "tasks")
DISK_EVERY_S = 20.0
PLANNED = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)


def generate(folder: Path, size: scale_data.Size, cores: int) -> None:
    """Generate the cohorts."""
    began = time.perf_counter()
    written = scale_data.generate(folder, size, workers=cores)
    if written:
        _note(folder, generated_s=time.perf_counter() - began, size=asdict(size))
    print(f"generated {', '.join(written) or 'nothing new'} in {time.perf_counter() - began:.0f} s", flush=True)


def run(folder: Path, arguments: argparse.Namespace, size: scale_data.Size) -> None:
    """Run the workflow in the folder, and note its jobs."""
    jobs = folder / "jobs.jsonl"
    if not arguments.resume:
        shutil.rmtree(folder / "results", ignore_errors=True)
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        jobs.unlink(missing_ok=True)
    cores, memory_mb, limits = arguments.cores, arguments.memory_mb, not arguments.no_limit
    config = folder / "config.yaml"
    write_text(config, yaml.safe_dump(configuration(folder, size, arguments.methods), sort_keys=False))
    command = [sys.executable, "-m", "snakemake", *TARGETS, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(config), "--cores", str(cores)]
    command += ["--keep-going", "--retries", "0"]
    if memory_mb:
        command += ["--resources", f"mem_mb={memory_mb}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    planned = subprocess.run(
        [*command, "--dry-run", "--quiet", "rules"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if planned.returncode:
        sys.exit(planned.stdout + planned.stderr)
    counts = Counter({name: int(number) for name, number in PLANNED.findall(planned.stdout) if name != "total"})
    if jobs.exists():
        counts.update(job.rule for job in read_jobs(jobs) if job_times(folder / job.log).wall is not None)
    groups = MemoryGroups.find() if limits else None
    _note(folder, planned=counts, limited=groups is not None, cores=cores, commit=_commit())
    began = time.perf_counter()
    watch = Watch(folder, groups, lambda job: _finish(folder, jobs, job))
    disk = _DiskPeak(folder)
    watch.start()
    disk.start()
    with (folder / "run.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False).returncode
    watch.stop()
    disk.stop()
    results = folder / "results" / RUN
    kinds = {kind: [size_mb([results / kind]), _count(results / kind)] for kind in DISK_KINDS}
    others = [path for path in results.iterdir() if path.name not in DISK_KINDS]
    kinds["others"] = [size_mb(others), sum(map(_count, others))]
    _note(
        folder, run_s=time.perf_counter() - began, exit_code=code, disk_mb=kinds, peak_disk_mb=disk.peak_mb,
        data_mb=size_mb([folder / "data", folder / "external"]),
    )  # fmt: skip


def tabulate(folder: Path, to: Path | None) -> None:
    """Write the table, or print it."""
    facts = Facts(**json.loads((folder / "facts.json").read_text(encoding="utf-8")))
    jobs = read_jobs(folder / "jobs.jsonl")
    times = {job.log: job_times(folder / job.log) for job in jobs}
    text = markdown(facts, jobs, times, Machine.measure().describe(), ROOT / "rules")
    if to is None:
        print(text)
    else:
        write_text(to, text)
        print(f"wrote {to}", flush=True)


def _finish(folder: Path, jobs: Path, job: Job) -> None:
    write_job(jobs, job)
    print(
        f"{job.ended - job.began:6.0f} s {job.peak_mb:6.0f} of {job.request_mb:6.0f} MB  {job.rule} "
        f"{' '.join(job.wildcards.values())}{'  KILLED' if job.is_killed else ''}",
        flush=True,
    )


def _note(folder: Path, **facts: object) -> None:
    """Add facts to those of the folder."""
    path = folder / "facts.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, known | facts)


def _count(path: Path) -> int:
    return sum(file.is_file() for file in path.rglob("*")) if path.is_dir() else int(path.exists())


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


class _DiskPeak(threading.Thread):
    """Thread that looks at the size of the results now and then."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder = folder
        self.peak_mb = 0.0
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(DISK_EVERY_S):
            self._look()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self._look()

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, size_mb([self.folder / "results"]))


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="generate, run, tabulate; all by default")
    parser.add_argument("--folder", type=Path, help="where data and results go, 25 GB; a temporary one by default")
    parser.add_argument("--small", action="store_true", help="cohorts of a hundred spots, to see that everything runs")
    parser.add_argument("--cores", type=int, default=2, help="cores of the run (default: 2)")
    parser.add_argument("--memory-mb", type=int, help="memory of all jobs together; without it only cores limit them")
    parser.add_argument("--methods", nargs="+", help="entries of benchmarks/scale_config.py to run; all by default")
    parser.add_argument("--resume", action="store_true", help="keep the results and notes of an earlier run")
    parser.add_argument("--no-limit", action="store_true", help="measure only, without a hard limit of memory")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing SCALE.md")
    arguments = parser.parse_args(given)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    return arguments


def main(given: Sequence[str]) -> None:
    """Run the parts that are asked for."""
    arguments = _arguments(given)
    size = scale_data.SMALL if arguments.small else scale_data.FULL
    parts = arguments.parts or PARTS
    with tempfile.TemporaryDirectory(prefix="spotwise-scale-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if "generate" in parts:
            generate(folder, size, arguments.cores)
        if "run" in parts:
            run(folder, arguments, size)
        if "tabulate" in parts:
            tabulate(folder, None if arguments.print or arguments.small else TABLE)


if __name__ == "__main__":
    main(sys.argv[1:])
