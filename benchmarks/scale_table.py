"""The table of a run at the paper's size, from what was noted of its jobs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.job_watch import Job
from benchmarks.scale_data import SLIDE, VISIUM, XENIUM, Size, slides

DISK_KINDS = (
    "samples", "embeddings", "context", "folds", "tasks", "state", "models", "observed", "predictions", "final",
    "scores", "slide_scores", "sweeps", "structure", "predict", "hest_bench", "figures", "tables", "logs", "benchmarks",
)  # fmt: skip
ALL = "all"
# Rules that a run on generated files has no job of, and why
NOT_RUN = {
    "fetch_sample": "downloads from the hub",
    "verify_downloads": "downloads from the hub",
    "fetch_bench_task": "downloads from the hub",
    "generate_sample": "the demo's own cohort",
    "generate_slide": "the demo's own cohort",
    "convert_slide": "only for slides that OpenSlide does not read",
    "check": "looks at the machine, writes no result",
    "verify": "looks at the machine, writes no result",
}
_RULE = re.compile(r"^\s*(?:use rule \w+ as (\w+) with|rule (\w+)):", re.MULTILINE)
_DONE = re.compile(  # as `spotwise.runtime.job.job` writes it
    r"INFO done in ([\d.]+) s, ([\d.]+) s of CPU time, after ([\d.]+) s of CPU time to start, (\d+) MB at most$",
    re.MULTILINE,
)
_ERROR = re.compile(r"^\S+ \S+ ERROR (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    """What is known of a run beside its jobs, as ``facts.json`` holds it."""

    size: dict
    planned: dict[str, int]
    limited: bool
    cores: int
    commit: str = ""
    generated_s: float = 0.0
    run_s: float = 0.0
    exit_code: int = 0
    disk_mb: dict[str, list[float]] = field(default_factory=dict)
    peak_disk_mb: float = 0.0
    data_mb: float = 0.0


class Times(NamedTuple):
    """Seconds of a job by its own log, and its peak of memory in MB; None where the job did not end well."""

    wall: float | None
    cpu: float | None
    peak_mb: float | None
    error: str


def job_times(log: Path) -> Times:
    """Read the last line of a job's log, and its last error."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Times(None, None, None, "")
    errors = _ERROR.findall(text)
    done = _DONE.search(text)
    if done is None:
        return Times(None, None, None, errors[-1] if errors else "")
    wall, cpu, before, peak = map(float, done.groups())
    return Times(wall, cpu + before, peak, "")


def rules_of(folder: Path) -> list[str]:
    """List the rules of the workflow that have a script, in the order of the files' names."""
    found = []
    for path in sorted(folder.glob("*.smk")):
        for match in _RULE.finditer(path.read_text(encoding="utf-8")):
            found.append(match[1] or match[2])
    return list(dict.fromkeys(found))


def cohort_of(job: Job, cohorts: Mapping[str, str]) -> str:
    """Return the cohort of a job, `ALL` for jobs of the whole run."""
    wildcards = job.wildcards
    if wildcards.get("slide"):
        return SLIDE
    if wildcards.get("task") or "bench" in job.rule:
        return "HEST-Bench"
    return wildcards.get("cohort") or cohorts.get(wildcards.get("sample", ""), ALL)


@dataclass(frozen=True)
class Group:
    """Jobs of one rule, or of one method, in one cohort."""

    name: str
    cohort: str
    jobs: list[Job]
    times: list[Times]

    @property
    def peak_mb(self) -> float:
        """Largest peak, by the job itself where it says so."""
        return max(self._peaks)

    @property
    def _peaks(self) -> list[float]:
        return [max(job.peak_mb, times.peak_mb or 0) for job, times in zip(self.jobs, self.times, strict=True)]

    @property
    def largest(self) -> Job:
        """The job with that peak."""
        return self.jobs[self._peaks.index(self.peak_mb)]

    @property
    def request_mb(self) -> float:
        """Largest request."""
        return max(job.request_mb for job in self.jobs)

    @property
    def failed(self) -> list[str]:
        """What the jobs that did not end well say."""
        reasons = []
        for job, times in zip(self.jobs, self.times, strict=True):
            if times.wall is None:
                killed = f"killed at its limit of {job.request_mb:.0f} MB" if job.is_killed else ""
                where = " ".join(job.wildcards.values())
                reasons.append(f"{where}: {killed or times.error or 'ended without a word'}")
        return reasons

    def cells(self) -> list[str]:
        """Return the row's cells."""
        walls = [one.wall if one.wall is not None else job.ended - job.began for job, one in self._pairs()]
        cpu = sum(one.cpu or 0 for one in self.times)
        share = self.peak_mb / self.request_mb if self.request_mb else float("nan")
        largest = self.largest
        return [
            self.name,
            self.cohort,
            str(len(self.jobs)),
            f"{max(walls):.0f}",
            f"{sum(walls):.0f}",
            f"{cpu:.0f}",
            f"{self.peak_mb:,.0f}",
            f"{max(job.private_mb for job in self.jobs):,.0f}",
            f"{self.request_mb:,.0f}" if self.request_mb else "",
            f"{share:.0%}" if share == share else "",
            f"{largest.input_mb:,.0f}",
            f"{max(job.output_mb for job in self.jobs):,.1f}",
            " ".join(value for name, value in largest.wildcards.items() if name != "cohort"),
        ]

    def _pairs(self) -> Iterable[tuple[Job, Times]]:
        return zip(self.jobs, self.times, strict=True)


HEADER = [
    "rule", "cohort", "jobs", "longest s", "wall s", "CPU s", "peak MB", "private MB", "request MB", "share",
    "input MB", "largest output MB", "job of the peak",
]  # fmt: skip


def grouped(
    jobs: Sequence[Job], times: Mapping[str, Times], cohorts: Mapping[str, str], by: str = "rule"
) -> list[Group]:
    """Group jobs by rule, or by a wildcard, and cohort, in the order of their first jobs."""
    found: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        name = job.rule if by == "rule" else job.wildcards.get(by)
        if name:
            found[name, cohort_of(job, cohorts)].append(job)
    return [Group(*key, members, [times[job.log] for job in members]) for key, members in found.items()]


def markdown(facts: Facts, jobs: Sequence[Job], times: Mapping[str, Times], machine: str, rules: Path) -> str:
    """Format a run as ``SCALE.md``.

    Parameters
    ----------
    times
        What each job's log says, by ``Job.log``.
    machine
        Description of the machine in Markdown.
    rules
        Folder of the workflow's rules, to tell which of them had no job.
    """
    known = Size(**{**facts.size, "xenium_spots": tuple(facts.size["xenium_spots"])})
    cohorts = {one.sample: one.cohort for one in slides(known)}
    order = {name: place for place, name in enumerate([VISIUM, XENIUM, SLIDE, "HEST-Bench", ALL])}
    by_rule = sorted(grouped(jobs, times, cohorts), key=lambda one: order.get(one.cohort, len(order)))
    trainings = [job for job in jobs if job.rule in ("train", "fit_frozen", "train_structure")]
    predictions = [job for job in jobs if job.rule.startswith("predict_")]
    parts = [
        INTRODUCTION,
        _cohorts(known),
        _run(facts, jobs, machine),
        "## Rules\n\n" + _table(HEADER, [one.cells() for one in by_rule]),
        "## Training, by method\n\n"
        + _table(HEADER, [one.cells() for one in grouped(trainings, times, cohorts, "method")]),
        "## Prediction, by method\n\n"
        + _table(HEADER, [one.cells() for one in grouped(predictions, times, cohorts, "method")]),
        "## Disk\n\n" + _disk(facts),
        "## Gaps\n\n" + _gaps(facts, by_rule, rules),
    ]
    return "\n\n".join(parts) + "\n"


def _cohorts(size: Size) -> str:
    rows = [
        [one.sample, one.cohort, one.patient, one.technology, f"{one.spots:,}", f"{one.genes:,}",
         "cut from its slide" if one.picture_px else "HEST's file"]
        for one in slides(size)
    ]  # fmt: skip
    text = _table(["sample", "cohort", "patient", "technology", "spots", "genes", "patches"], rows)
    return f"{text}\n\n{HD_TEXT.format(bins=size.hd_bins, side=size.slide_px)}"


def _run(facts: Facts, jobs: Sequence[Job], machine: str) -> str:
    limit = (
        "a hard limit on its memory (a control group), so that a job above it is killed"
        if facts.limited
        else "only measured: this machine lets nobody make a control group of memory"
    )
    above = [job for job in jobs if job.request_mb and job.peak_mb > job.request_mb]
    killed = [job for job in jobs if job.is_killed]
    results_mb = sum(size for size, _ in facts.disk_mb.values())
    return "\n".join(
        [
            machine,
            f"* Commit {facts.commit}; data generated in {facts.generated_s / 60:.1f} minutes, run in "
            f"{facts.run_s / 60:.1f} minutes on {facts.cores} cores; {len(jobs)} jobs with a script.",
            f"* What a job asked for was {limit}. Killed: {len(killed)}. Peaks above the request: {len(above)}.",
            f"* Disk: {facts.data_mb / 1000:.1f} GB of data; results of {results_mb / 1000:.1f} GB at the end and "
            f"{facts.peak_disk_mb / 1000:.1f} GB at their peak.",
        ]
    )


def _disk(facts: Facts) -> str:
    rows = [[kind, f"{size:,.1f}", f"{int(files):,}"] for kind, (size, files) in facts.disk_mb.items() if files]
    return _table(["folder", "MB", "files"], sorted(rows, key=lambda row: -float(row[1].replace(",", ""))))


def _gaps(facts: Facts, groups: Sequence[Group], rules: Path) -> str:
    lines = []
    for group in groups:
        lines += [f"* `{group.name}` {group.cohort} {reason}" for reason in group.failed]
    ran = defaultdict(int)
    for group in groups:
        ran[group.name] += len(group.jobs)
    for rule in rules_of(rules):
        planned = facts.planned.get(rule, 0)
        if not planned and not ran[rule]:
            lines.append(f"* `{rule}`: no job: {NOT_RUN.get(rule, 'this configuration needs none')}.")
        elif ran[rule] < planned:
            lines.append(
                f"* `{rule}`: {planned - ran[rule]} of {planned} jobs did not start: "
                f"{'jobs before them failed' if facts.run_s else 'the run has not ended'}."
            )
    return "\n".join(lines) or "None."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


INTRODUCTION = """# The paper's size

Written by `make bench-scale`: the whole workflow on synthetic cohorts as large as the paper's, with tiny encoders, one
epoch, one seed and one thread a job. Memory and disk of everything but the networks are thus those of a real run;
times are not, and neither is the memory of the trainings' networks. "Peak" is the resident memory of the largest job,
pages of mapped files included; "private" leaves these out, which the kernel can reclaim. "Share" is the peak in the
request. "Input" is that of the job of the peak. Wall and CPU are sums over the jobs."""
HD_TEXT = (
    "The slide of Visium HD has {bins:,} bins of 8 um. They are pooled 16 x 16 to 128 um, as HEST does: a patch covers "
    "112 um, so that single bins would share nearly all pixels, and a patch for each would take 45 GB. Its slide, "
    "{side:,} px wide, comes without patches, and once more without counts (`unsequenced`)."
)
