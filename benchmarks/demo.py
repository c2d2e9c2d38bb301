"""Benchmark of the whole demo: time of the run against the work of its jobs, from the logs of a `make demo`.

Nothing is run here. Each job's log ends with the time of its work, and Snakemake's log with the time of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.machine import Machine
from benchmarks.table import AtMost, Row
from benchmarks.timing import ROOT, Ratio

RESULTS, SNAKEMAKE_LOGS = ROOT / "results" / "demo", ROOT / ".snakemake" / "log"
# As `spotwise.runtime.job.job` writes it
DONE = re.compile(
    r"INFO done in ([\d.]+) s, ([\d.]+) s of CPU time, after ([\d.]+) s of CPU time to start, \d+ MB at most$",
    re.MULTILINE,
)
BEGUN = "%Y-%m-%dT%H%M%S.%f"  # in the name of Snakemake's log
CORES = re.compile(r"^Provided cores: (\d+)", re.MULTILINE)
ELAPSED = re.compile(r"^Elapsed time: (?:(\d+) days?, )?(\d+):(\d+):([\d.]+)$", re.MULTILINE)
NOT_MEASURED = float("nan")


@dataclass(frozen=True)
class Work:
    """Time that jobs took.

    Attributes
    ----------
    jobs
        Number of jobs.
    wall, cpu
        Seconds of their work, after the imports of a script.
    start
        CPU seconds before that.
    """

    jobs: int
    wall: float
    cpu: float
    start: float


@dataclass(frozen=True)
class Run:
    """A complete run of Snakemake."""

    seconds: float
    cores: int


def work(logs: Iterable[Path]) -> Work:
    """Sum over the logs of jobs."""
    found = [DONE.search(log.read_text(encoding="utf-8")) for log in logs]
    taken = [tuple(map(float, match.groups())) for match in found if match]
    return Work(len(taken), *(sum(each[part] for each in taken) for part in range(3)))


def run_behind(job_logs: Iterable[Path], snakemake_logs: Iterable[Path]) -> Run | None:
    """Find the run of Snakemake that wrote all of ``job_logs``; ``None`` if there were several."""
    written = [log.stat().st_mtime for log in job_logs]
    for log in snakemake_logs:
        text = log.read_text(encoding="utf-8")
        cores, elapsed = CORES.search(text), ELAPSED.search(text)
        if cores and elapsed:
            days, hours, minutes, seconds = (float(part or 0) for part in elapsed.groups())
            took = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
            begun = datetime.strptime(log.name.removesuffix(".snakemake.log"), BEGUN).timestamp()
            if begun <= min(written) and max(written) <= begun + took:
                return Run(took, int(cores[1]))
    return None


def rows(machine: Machine) -> list[Row]:
    """Measure the overhead of the demo's last run."""
    return [row(sorted((RESULTS / "logs").rglob("*.log")), sorted(SNAKEMAKE_LOGS.glob("*.snakemake.log")))]


def row(job_logs: list[Path], snakemake_logs: list[Path]) -> Row:
    """Compute the overhead of the run that wrote ``job_logs``.

    The overhead is the time of all cores outside the jobs' work, divided by that work. Each job uses one core.
    """
    title, number = "the whole demo", "overhead / work of the jobs, in seconds of all cores"
    run = run_behind(job_logs, snakemake_logs) if job_logs else None
    done = work(job_logs) if run else None
    if not done or done.jobs < len(job_logs):
        again = "no single run made results/demo: run `make clean` and `make demo` first"
        return Row(title, number, Ratio(NOT_MEASURED, NOT_MEASURED, NOT_MEASURED), AtMost(0.4), note=again)
    overhead = run.seconds * run.cores / done.wall - 1
    return Row(
        title,
        number,
        Ratio(overhead, overhead, overhead, done.start / done.cpu),
        AtMost(0.4),
        note=f"{done.jobs} jobs: {done.wall:.0f} s of work in {run.seconds:.0f} s on {run.cores} cores; "
        f"CPU time: {done.cpu:.0f} s of work, {done.start:.0f} s to start the jobs, Snakemake's own left out; "
        "what a job imports as it works counts as work",
    )
