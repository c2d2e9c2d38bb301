"""Hashes of all results of a run that must be reproduced byte for byte."""

import hashlib
import json
from pathlib import Path

from spotwise.runtime.gpu_locks import HOLDER_SUFFIX
from spotwise.runtime.run import LOCK
from spotwise.training.loop import TIMINGS

# Files that describe the course of a run, not its results
EXEMPT_FILES = {
    "logs": "times and attempts",
    "benchmarks": "seconds and memory of each job",
    "state": "of unfinished trainings; `leftovers` checks that none stays",
    "tables/costs.csv": "seconds of each training",
    "tables/cost_jobs.csv": "seconds of each training",
    "figures/costs.pdf": "drawn from these seconds",
    "figures/costs.png": "drawn from these seconds",
}
# Fields of files that must be the same otherwise
EXEMPT_COLUMNS = {"history.tsv": TIMINGS}
EXEMPT_KEYS = {
    "summary.json": ("seconds", "started_times"),
    "provenance.json": ("time", "jobs", ("tables", "tables/costs.csv")),
}


def outcome(folder: Path, run: str = "demo") -> dict[str, str]:
    """Hash every file of a run's data and results, except hidden and exempt ones."""
    results = folder / "results" / run
    found = {}
    for root in (folder / "data", results):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root).as_posix()
            if path.is_file() and not path.name.startswith(".") and not _is_exempt(root == results, inside):
                found[f"{root.name}/{inside}"] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _is_exempt(of_results: bool, inside: str) -> bool:
    return of_results and any(inside == name or inside.startswith(f"{name}/") for name in EXEMPT_FILES)


def _content(path: Path) -> bytes:
    if path.name in EXEMPT_COLUMNS:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [column for column, name in enumerate(rows[0]) if name not in EXEMPT_COLUMNS[path.name]]
        return "\n".join("\t".join(row[column] for column in kept) for row in rows).encode()
    if path.name in EXEMPT_KEYS:
        content = json.loads(path.read_bytes())
        for key in EXEMPT_KEYS[path.name]:
            *above, last = (key,) if isinstance(key, str) else key
            inner = content
            for name in above:
                inner = inner[name]
            inner.pop(last, None)  # fits on features record no time
        return json.dumps(content).encode()
    return path.read_bytes()


# Snakemake's own in a folder that is the output of a rule, and the lock of a run, which names its last holder
HIDDEN = (".snakemake_timestamp", LOCK, LOCK + HOLDER_SUFFIX)


def leftovers(folder: Path) -> list[str]:
    """List temporary files and training states that were left behind."""
    every = [path for root in ("results", "data") for path in (folder / root).rglob(".*")]
    hidden = [path for path in every if path.is_file() and path.name not in HIDDEN]
    states = [path for path in (folder / "results").glob("*/state/**/*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in hidden + states)
