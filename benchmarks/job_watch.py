"""Watch the jobs of a Snakemake run from outside: what each asks for, takes and leaves, and a hard limit on its memory.

A job of a script is a process that runs ``.snakemake/scripts/tmp*.py``; that file begins with the job's description,
which Snakemake has pickled there. Nothing of the workflow is changed.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.memory_groups import Group, MemoryGroups

POLL_SECONDS = 0.05
LOOK_SECONDS = 3.0  # for a new process to become a job: it forks, then replaces its program
SCRIPT = re.compile(r"\S*\.snakemake/scripts/tmp\w+\.\w+\.py")
DESCRIPTION = re.compile(rb"snakemake = pickle\.loads\((b(['\"]).*?\2)\);\s*from snakemake")
MB = 10**6  # as in Snakemake's mem_mb


@dataclass
class Job:
    """What is known of a job.

    Attributes
    ----------
    rule, wildcards, log
        As in the workflow; ``log`` relative to the working folder.
    request_mb, threads
        Resources that it asked for.
    peak_mb, private_mb
        Peak of resident memory, and of its part that belongs to no file, as seen every `POLL_SECONDS`.
    is_limited, is_killed
        Whether its request was a hard limit, and whether the kernel killed it there.
    began, ended
        Seconds since the epoch.
    input_mb, output_mb
        Size of the files that it read and wrote, folders included.
    """

    rule: str
    wildcards: dict[str, str]
    log: str
    request_mb: float
    threads: int
    outputs: list[str] = field(default_factory=list)
    peak_mb: float = 0.0
    private_mb: float = 0.0
    is_limited: bool = False
    is_killed: bool = False
    began: float = 0.0
    ended: float = 0.0
    input_mb: float = 0.0
    output_mb: float = 0.0


class Watch(threading.Thread):
    """Thread that watches all jobs of a working folder until :meth:`stop`.

    Parameters
    ----------
    folder
        Working folder of the run.
    groups
        Maker of memory limits; None measures only.
    report
        Called with each job at its end.
    """

    def __init__(self, folder: Path, groups: MemoryGroups | None, report: Callable[[Job], None]):
        super().__init__(daemon=True)
        self.folder = folder
        self.groups = groups
        self.report = report
        self._stopped = threading.Event()
        self._seen: set[int] = set(_processes())
        self._new: dict[int, float] = {}
        self._running: dict[int, tuple[Job, Group | None]] = {}

    def stop(self) -> None:
        """Report jobs that have ended, and end."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Look at all processes again and again."""
        while not self._stopped.wait(POLL_SECONDS):
            self._look()
        self._look()

    def _look(self) -> None:
        now, processes = time.monotonic(), set(_processes())
        self._seen &= processes
        for process in processes - self._seen:
            self._seen.add(process)
            self._new[process] = now
        for process, since in list(self._new.items()):
            if _parent(process) in self._running:  # a job's own process, in its group, that looks like it for a moment
                del self._new[process]
            elif (script := _script_of(process, self.folder)) is not None:
                del self._new[process]
                self._begin(process, script)
            elif now - since > LOOK_SECONDS or process not in processes:
                del self._new[process]
        for process, (job, group) in list(self._running.items()):
            memory = resident_mb(process)
            if memory is None:
                del self._running[process]
                self._end(job, group)
            else:
                job.peak_mb, job.private_mb = max(job.peak_mb, memory[0]), max(job.private_mb, memory[1])

    def _begin(self, process: int, script: Path) -> None:
        described = describe(script)
        if described is None:
            return
        job = described[0]
        group = None
        if self.groups is not None and job.request_mb:
            group = self.groups.make(f"job{process}", int(job.request_mb * MB))
            job.is_limited = group.add(process)
        job.began = time.time()
        job.input_mb = size_mb(self.folder / path for path in described[1])
        self._running[process] = job, group

    def _end(self, job: Job, group: Group | None) -> None:
        job.ended = time.time()
        job.output_mb = size_mb(self.folder / path for path in job.outputs)
        if group is not None:
            job.is_killed = group.kills() > 0
            group.close()
        self.report(job)


def describe(script: Path) -> tuple[Job, list[str]] | None:
    """Read a job and its input files from its script, None if the script is gone or has no description."""
    try:
        found = DESCRIPTION.search(script.read_bytes())
    except OSError:
        return None
    if found is None:
        return None
    snakemake = pickle.loads(ast.literal_eval(found[1].decode()))  # Snakemake's own, of a run that we started
    job = Job(
        rule=snakemake.rule,
        wildcards=dict(snakemake.wildcards.items()),
        log=str(snakemake.log[0]) if snakemake.log else "",
        request_mb=float(snakemake.resources.get("mem_mb", 0) or 0),
        threads=int(snakemake.threads),
        outputs=sorted({str(path) for path in snakemake.output}),
    )
    return job, sorted({str(path) for path in snakemake.input})


def resident_mb(process: int) -> tuple[float, float] | None:
    """Return the peak of a process's resident memory and its private part now, None once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmHWM" not in fields:
        return None
    kilobytes = {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon", "RssShmem") if name in fields}
    return kilobytes["VmHWM"] * 1024 / MB, (kilobytes.get("RssAnon", 0) + kilobytes.get("RssShmem", 0)) * 1024 / MB


def size_mb(paths: Iterable[Path]) -> float:
    """Add up the sizes of files, and of all files in folders."""
    total = 0
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        for file in files:
            try:
                total += 0 if file.is_dir() else file.stat().st_size
            except OSError:
                continue
    return total / MB


def read_jobs(path: Path) -> list[Job]:
    """Read jobs that :func:`write_job` has written."""
    return [Job(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_job(path: Path, job: Job) -> None:
    """Append a job to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(job)) + "\n")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(process: int) -> int | None:
    """Return the parent of a process, None once it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _script_of(process: int, folder: Path) -> Path | None:
    """Return the script of a job in ``folder`` that a process runs itself, not through a shell."""
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    script = next((Path(one) for one in arguments[1:] if SCRIPT.fullmatch(one)), None)
    return script if script is not None and script.is_relative_to(folder) else None
