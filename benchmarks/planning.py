"""Benchmark of planning: `snakemake -n` as the cohorts grow, against a workflow of as many trivial jobs."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import yaml

from benchmarks.machine import Machine
from benchmarks.table import AtMost, Limit, Row
from benchmarks.timing import ROOT, Ratio, Times

# Each twice the one before. A thousand slides take ten minutes and 6 GB: `python -m benchmarks planning_in_full`
SLIDES = (10, 20, 40)
REPEATS = 3
PER_COHORT = 5  # as many as a cohort of the paper has: folds leave one of them out
METHODS = {
    "CMRCNet": {"neighbours": [50]},
    "CMRCNet-paper": {"model": "CMRCNet", "options": {"reading": "paper"}, "neighbours": [50]},
    "BLEEP": {"neighbours": [50]},
    "BLEEP-ViT": {"model": "BLEEP", "options": {"encoder": "vit"}, "neighbours": [50]},
    "STNet": {},
    "HisToGene": {},
    "NH2ST": {},
    "EGN": {"encoder": "resnet18"},
    "Ridge": {"encoder": "resnet18"},
    "KNNImage": {"encoder": "resnet18"},
}
RUN = "of_the_planning_benchmark"  # has no results, so that every job is planned


def write_configuration(folder: Path, slides: int) -> Path:
    """Write a configuration with one slide per patient, ten methods, both protocols and three seeds."""
    sheet, path = folder / "samples.tsv", folder / "config.yaml"
    cohort = [f"C{slide // PER_COHORT}" for slide in range(slides)]
    lines = ["sample\tcohort\tpatient", *(f"S{slide}\t{cohort[slide]}\tP{slide}" for slide in range(slides))]
    sheet.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "run": RUN,
        "samples": str(sheet),
        "data": {"source": "generated", "root": str(folder / "data"), "generated": {"seed": 0, "spots_across": 13}},
        "cohorts": {name: {"markers": ["EPCAM"]} for name in dict.fromkeys(cohort)},
        "protocols": ["paper", "patient"],
        "seeds": [0, 1, 2],
        "encoders": {"resnet18": {"timm": "resnet18", "pretrained": "no"}},
        "methods": METHODS,
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def write_bare(folder: Path, jobs: int) -> Path:
    """Write a Snakefile of pairs of trivial jobs, one reading what the other writes."""
    path = folder / "Snakefile"
    path.write_text(
        f"""
rule all:
    input: [f"second/{{n}}.txt" for n in range({jobs // 2})]
rule second:
    input: "first/{{n}}.txt"
    output: "second/{{n}}.txt"
    shell: "cp {{input}} {{output}}"
rule first:
    output: "first/{{n}}.txt"
    shell: "touch {{output}}"
""",
        encoding="utf-8",
    )
    return path


def plan(*arguments: str | Path, folder: Path = ROOT) -> tuple[float, float, int]:
    """Wall and CPU seconds of `snakemake -n` in ``folder``, and how many jobs it would run."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    jobs = jobs_planned(*arguments, folder=folder)["total"]
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, jobs


def jobs_planned(*arguments: str | Path, folder: Path = ROOT) -> dict[str, int]:
    """How many jobs of each rule, and in ``total``, `snakemake -n` in ``folder`` would run."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return {rule: int(jobs) for rule, jobs in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


def rows(machine: Machine) -> list[Row]:
    """Jobs per second, growth, and the time of the paper's own plan."""
    return [*rows_of_growth(SLIDES, REPEATS), row_of_paper()]


def rows_of_growth(slides: Sequence[int], repeats: int) -> list[Row]:
    """Measure runs of increasing numbers of slides, the last three each twice the one before."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(n) for n in (*slides, "bare")]
        for folder in folders:
            folder.mkdir()
        configurations = [write_configuration(folder, n) for folder, n in zip(folders, slides, strict=False)]
        taken: list[list[tuple[float, float, int]]] = [[] for _ in folders]
        for _ in range(repeats):
            for number, configuration in enumerate(configurations):
                taken[number].append(plan("--configfile", configuration))
            bare = write_bare(folders[-1], taken[len(slides) - 1][0][2])
            taken[-1].append(plan("--snakefile", bare, "--cores", 1, folder=folders[-1]))
    times = [Times(*list(zip(*runs, strict=True))[:2]) for runs in taken]
    jobs = [runs[0][2] for runs in taken]
    ours, least = times[-2], times[-1]
    per_second = [jobs[-2] / seconds for seconds in ours.wall]
    work = f"planning {slides[-1]} slides in cohorts of {PER_COHORT} x {len(METHODS)} methods x 2 protocols x 3 seeds"
    seconds = ", ".join(f"{n}: {median(time.cpu):.1f} s" for n, time in zip(slides, times, strict=False))
    return [
        Row(
            work,
            "jobs per second",
            Ratio(median(per_second), min(per_second), max(per_second), jobs[-2] / median(ours.cpu)),
            limit=Limit("as many jobs of a Snakefile of two trivial rules", least.median, ours.median),
            note=f"{jobs[-2]:,} jobs; the least is Snakemake's own, without functions, parameters, messages and logs",
        ),
        Row(
            work,
            "time of a further job, second doubling / first doubling",
            growth(times[-4:-1], jobs[-4:-1]),
            AtMost(1.2),
            note=f"CPU time by slides: {seconds}",
        ),
    ]


def growth(times: Sequence[Times], jobs: Sequence[int]) -> Ratio:
    """Cost of each further job between the larger two of three sizes, over that between the smaller two.

    What is the same for all of them, imports above all, falls out: 1 where planning is linear, 2 where quadratic.
    """
    few, some, many = jobs

    def ratio(least: float, middle: float, most: float) -> float:
        return ((most - middle) / (many - some)) / ((middle - least) / (some - few))

    wall = [ratio(*seconds) for seconds in zip(*(time.wall for time in times), strict=True)]
    return Ratio(median(wall), min(wall), max(wall), ratio(*(median(time.cpu) for time in times)))


def row_of_paper() -> Row:
    """Seconds of planning the paper's own run."""
    wall, cpu, jobs = plan("--configfile", ROOT / "config.yaml", "--config", f"run={RUN}")
    return Row(
        "planning the paper",
        "seconds",
        Ratio(wall, wall, wall, cpu),
        note=f"{jobs:,} jobs: config.yaml",
    )
