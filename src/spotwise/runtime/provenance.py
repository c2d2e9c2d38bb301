"""Record of how the numbers of a run were made."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spotwise import __version__
from spotwise.runtime.code_version import module_hash, package_modules
from spotwise.runtime.files import sha256
from spotwise.runtime.software import checkout, locked_packages

# Rules that compute on `training.device`
DEVICE_RULES = (
    "embed_patches",
    "train",
    "predict_test_slides",
    "train_structure",
    "embed_joint",
    "embed_bench_patches",
    "embed_context",
    "embed_slide_patches",
    "embed_slide_context",
    "predict_slide",
)
CPU = "cpu"
REDACTED_PATH = "<path outside the working folder>"
# Absolute paths, paths from a home or a drive, and paths through a parent folder: at the start of a text or a word, or
# after a colon that belongs to no URL
OUTSIDE_PATH = re.compile(r"(?:(?:^|(?<=[\s='\"(,;]))(?:~\w*|\.\.|[A-Za-z]:)?[/\\]|(?<=:)[/\\](?!/)|file:/)[^\s'\",;)]")
MIN_TOKEN_LENGTH = 8
TOKEN = re.compile(rf"hf_[A-Za-z0-9]{{{MIN_TOKEN_LENGTH},}}")
REDACTED_TOKEN = "<token>"


@dataclass(frozen=True)
class RunFiles:
    """Files of a finished run, some of them by sample."""

    results: Path  # folder of the run, with benchmarks/ and models/
    tables: Sequence[str | Path]
    summaries: Sequence[str | Path]  # summary.json of every training and fit
    fingerprints: Mapping[str, str | Path]
    downloads: Mapping[str, str | Path]  # manifests
    labels: Mapping[str, str | Path]  # known domains
    external: Mapping[str, str | Path] = field(default_factory=dict)  # predictions of other tools
    slides: Mapping[str, str | Path] = field(default_factory=dict)  # without counts, by name


def run_record(
    config: Mapping[str, object], samples: Sequence[Mapping[str, str]], files: RunFiles, snakemake: str
) -> dict[str, object]:
    """Collect everything that determines or explains the numbers of a run, ready for JSON.

    The record contains no host name, user name, absolute path or token, whatever the configuration contains. It
    contains no date, so that the same run gives the same record.

    Parameters
    ----------
    config, samples
        Configuration with all defaults, and rows of the sample sheet.
    files
        What the run read and wrote.
    snakemake
        Version of Snakemake, which is not installed in the jobs' conda environments.
    """
    devices = training_devices(files.results, files.summaries)
    jobs = measured_jobs(files.results / "benchmarks", devices)
    record = {
        "run": config["run"],
        "spotwise": __version__,
        "workflow": checkout(),
        "code": {module: module_hash(module) for module in package_modules()},
        "software": {"python": platform.python_version(), "snakemake": snakemake, **locked_packages()},
        "hardware": {**machine(), "gpus": sorted({device for device in devices.values() if device != CPU})},
        "config": config,
        "samples": samples,
        "inputs": {sample: _read_json(path)["files"] for sample, path in files.fingerprints.items()},
        "labels": {sample: sha256(path) for sample, path in files.labels.items()},
        "external": {name: sha256(path) for name, path in files.external.items()},
        "slides": {name: sha256(path) for name, path in files.slides.items()},
        "downloads": {
            sample: [{key: value for key, value in file.items() if key != "modified_ns"} for file in _read_json(path)]
            for sample, path in files.downloads.items()
        },
        "tables": {Path(path).relative_to(files.results).as_posix(): sha256(path) for path in files.tables},
        "time": {rule: total(measured.values()) for rule, measured in jobs.items()},
        "jobs": jobs,
    }
    return redact(record)


def _read_json(path: str | Path) -> object:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def machine() -> dict[str, object]:
    """Describe the processor, cores and memory of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }


# --- measured jobs ----------------------------------------------------------------------------------------------------


def training_devices(results: Path, summaries: Iterable[str | Path]) -> dict[str, str]:
    """Return the device of each training by the name of its benchmark.

    Names are ``<cohort>/<protocol>/<method>/fold<fold>/seed<seed>``, and ``<cohort>/<method>/<scope>/seed<seed>`` for
    clustering methods. Fits on the CPU record no device and are left out.
    """
    devices = {}
    for path in summaries:
        device = _read_json(path).get("device")
        if device:
            folder = Path(path).parent.relative_to(results).as_posix()
            devices[re.sub(r"^models/|^structure/([^/]+)/models/", r"\1/", folder).lstrip("/")] = device
    return devices


def measured_jobs(benchmarks: Path, devices: Mapping[str, str]) -> dict[str, dict[str, dict[str, object]]]:
    """Return wall seconds and device of every benchmarked job, by rule and by the job's wildcards.

    ``benchmarks`` holds ``<rule>/<wildcards>.tsv``. A job of a rule in `DEVICE_RULES` ran on the device of its
    trainings, or if it has none on that of all trainings of the run (``"A or B"`` if there were several). A restarted
    job counts from its last start.
    """
    jobs: dict[str, dict[str, dict[str, object]]] = {}
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule, _, name = path.relative_to(benchmarks).with_suffix("").as_posix().partition("/")
        with path.open(encoding="utf-8", newline="") as file:
            seconds = sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
        device = _device(name, devices) if rule in DEVICE_RULES else CPU
        jobs.setdefault(rule, {})[name or "all"] = {"seconds": seconds, "device": device}
    return jobs


def _device(job: str, devices: Mapping[str, str]) -> str | None:
    own = {
        device
        for training, device in devices.items()
        if f"{training}/".startswith(f"{job}/") or f"{job}/".startswith(f"{training}/")
    }
    return " or ".join(sorted(own or set(devices.values()))) or None


def total(jobs: Iterable[Mapping]) -> dict[str, float]:
    """Add up the number of jobs, their wall seconds and those on a GPU."""
    jobs = list(jobs)
    on_gpu = [job["seconds"] for job in jobs if job["device"] and CPU not in job["device"].split(" or ")]
    return {
        "jobs": len(jobs),
        "seconds": round(sum(job["seconds"] for job in jobs), 1),
        "gpu_seconds": round(sum(on_gpu), 1),
    }


# --- redaction --------------------------------------------------------------------------------------------------------


def redact(value: object) -> object:
    """Remove tokens and paths outside the working folder from all texts of a JSON value.

    Tokens are those of Hugging Face and the content of ``HF_TOKEN``. A text is cut at such a path, because any of its
    parts may be a personal name.
    """
    if isinstance(value, Mapping):
        return {redact(key): redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    if not isinstance(value, str):
        return value
    secret = os.environ.get("HF_TOKEN", "").strip()
    text = value.replace(secret, REDACTED_TOKEN) if len(secret) >= MIN_TOKEN_LENGTH else value
    text = TOKEN.sub(REDACTED_TOKEN, text)
    outside = OUTSIDE_PATH.search(text)
    return f"{text[: outside.start()]}{REDACTED_PATH}" if outside else text
