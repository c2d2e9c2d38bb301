"""What a result was made by: a hash of the code that matters, the versions of the libraries, the record of a run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from spotwise import __version__
from spotwise.runtime.code_version import PACKAGE, module_hash, package_modules


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages`` by name."""
    return {package: metadata.version(package) for package in packages}


# --- the record of a run ----------------------------------------------------------------------------------------------

ROOT = PACKAGE.parents[1]
# Rules that compute on `training.device`
ON_DEVICE = ("embed_patches", "train", "build_bank", "predict_spots", "train_structure", "embed_joint")
CPU = "cpu"
ELSEWHERE = "<path outside the working folder>"
# A path from a root, a home or a drive, or one that climbs out: at the start of a text or of a word, or after a colon
# that makes no URL
OUTSIDE_PATH = re.compile(r"(?:(?:^|(?<=[\s='\"(,;]))(?:~\w*|\.\.|[A-Za-z]:)?[/\\]|(?<=:)[/\\](?!/)|file:/)[^\s'\",;)]")
SHORTEST_TOKEN = 8
TOKEN = re.compile(rf"hf_[A-Za-z0-9]{{{SHORTEST_TOKEN},}}")
HIDDEN_TOKEN = "<token>"


def run_record(
    config: Mapping[str, object],
    samples: Sequence[Mapping[str, str]],
    fingerprints: Mapping[str, Mapping],
    downloads: Mapping[str, Sequence[Mapping]],
    results: str | Path,
    tables: Sequence[str | Path],
    summaries: Sequence[str | Path],
    snakemake: str,
    labels: Mapping[str, str | Path],
) -> dict[str, object]:
    """Everything that a reader needs to know where the numbers of a run come from, ready for JSON.

    Holds no host or user name, no absolute path and no token, whatever the configuration says; and no date, so that
    the same run gives the same record.

    Parameters
    ----------
    config
        The configuration with all defaults filled in.
    samples
        Rows of the sample sheet.
    fingerprints
        Contents of ``fingerprint.json`` by sample.
    downloads
        Manifests of what was downloaded, by sample; the files' times of change are left out.
    results
        Folder of the run, with ``benchmarks/`` and ``models/``.
    tables
        Result tables to hash.
    summaries
        ``summary.json`` of every training and fit.
    snakemake
        Version of the Snakemake that runs the workflow, which jobs in environments of their own cannot see.
    labels
        Files with the known domains of the slides, by sample.

    Returns
    -------
    ``spotwise``, ``workflow`` (commit), ``code`` (hash per module), ``software``, ``hardware``, ``config``,
    ``samples``, ``inputs``, ``labels`` (sha256), ``downloads``, ``tables`` (sha256), ``time`` (jobs and seconds per
    rule) and ``jobs`` (seconds and device of each).
    """
    results = Path(results)
    devices = training_devices(results, summaries)
    jobs = measured_jobs(results / "benchmarks", devices)
    record = {
        "run": config["run"],
        "spotwise": __version__,
        "workflow": checkout(),
        "code": {module: module_hash(module) for module in package_modules()},
        "software": {"python": platform.python_version(), "snakemake": snakemake, **installed()},
        "hardware": {**machine(), "gpus": sorted({device for device in devices.values() if device != CPU})},
        "config": config,
        "samples": samples,
        "inputs": {sample: known["files"] for sample, known in fingerprints.items()},
        "labels": {sample: sha256(path) for sample, path in labels.items()},
        "downloads": {sample: [without_time(file) for file in files] for sample, files in downloads.items()},
        "tables": {Path(path).relative_to(results).as_posix(): sha256(path) for path in tables},
        "time": {rule: total(measured.values()) for rule, measured in jobs.items()},
        "jobs": jobs,
    }
    return scrubbed(record)


def without_time(file: Mapping[str, object]) -> dict[str, object]:
    """A file of a manifest but for its time of change, which differs from machine to machine."""
    return {key: value for key, value in file.items() if key != "modified_ns"}


def checkout() -> dict[str, object] | None:
    """Commit of the workflow and whether its files differ from it; ``None`` where it lies in no git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None
        return {
            "commit": git("rev-parse", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def installed() -> dict[str, object]:
    """Hash of the lock file, and versions of the packages that spotwise asks for where this environment has them."""
    asked = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    names = [match[0] for line in asked if (match := re.match(r"[\w.-]+", line))]
    here = {distribution.name.lower().replace("_", "-") for distribution in metadata.distributions()}
    packages = versions(*(name for name in names if name.lower().replace("_", "-") in here))
    return {"requirements.lock": sha256(ROOT / "requirements.lock"), "packages": packages}


def machine() -> dict[str, object]:
    """Processor, cores and memory of the machine that this job runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }


def training_devices(results: Path, summaries: Iterable[str | Path]) -> dict[str, str]:
    """Device of each training by ``<cohort>/<protocol>/<method>/fold<fold>/seed<seed>``; fits name none.

    Of one that clusters by ``<cohort>/<method>/<scope>/seed<seed>``: the name of its benchmark, here too.
    """
    devices = {}
    for path in summaries:
        device = json.loads(Path(path).read_text(encoding="utf-8")).get("device")
        if device:
            folder = Path(path).parent.relative_to(results).as_posix()
            devices[re.sub(r"^models/|^structure/([^/]+)/models/", r"\1/", folder).lstrip("/")] = device
    return devices


def measured_jobs(benchmarks: Path, devices: Mapping[str, str]) -> dict[str, dict[str, dict[str, object]]]:
    """Wall seconds and device of every job that Snakemake has timed, by rule and by the job's wildcards.

    A job of `ON_DEVICE` ran on the device of its training; one that belongs to none, where the run's trainings did
    (``"A or B"`` where they ran on several). A job that was stopped and started again counts from its last start.

    Parameters
    ----------
    benchmarks
        Folder of the benchmark files, ``<rule>/<wildcards>.tsv``.
    devices
        As :func:`training_devices` returns them.
    """
    jobs: dict[str, dict[str, dict[str, object]]] = {}
    anywhere = " or ".join(sorted(set(devices.values()))) or None
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule, _, name = path.relative_to(benchmarks).with_suffix("").as_posix().partition("/")
        with path.open(encoding="utf-8", newline="") as file:
            seconds = sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
        training = "/".join(name.split("/")[:5])
        device = devices.get(training, anywhere) if rule in ON_DEVICE else CPU
        jobs.setdefault(rule, {})[name or "all"] = {"seconds": seconds, "device": device}
    return jobs


def total(jobs: Iterable[Mapping]) -> dict[str, float]:
    """Number, wall seconds and, of these, seconds on a GPU."""
    jobs = list(jobs)
    on_gpu = [job["seconds"] for job in jobs if job["device"] and CPU not in job["device"].split(" or ")]
    return {
        "jobs": len(jobs),
        "seconds": round(sum(job["seconds"] for job in jobs), 1),
        "gpu_seconds": round(sum(on_gpu), 1),
    }


def sha256(path: str | Path) -> str:
    """Hash of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def scrubbed(value: object) -> object:
    """The same JSON without tokens, and without paths that tell where on a machine, and whose, something lies.

    Texts are searched for Hugging Face tokens and for what ``HF_TOKEN`` holds, and end where a path leaves the working
    folder, as any part of it may be a name.
    """
    if isinstance(value, Mapping):
        return {scrubbed(key): scrubbed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(item) for item in value]
    if not isinstance(value, str):
        return value
    secret = os.environ.get("HF_TOKEN", "").strip()
    text = TOKEN.sub(HIDDEN_TOKEN, value.replace(secret, HIDDEN_TOKEN) if len(secret) >= SHORTEST_TOKEN else value)
    outside = OUTSIDE_PATH.search(text)
    return f"{text[: outside.start()]}{ELSEWHERE}" if outside else text
