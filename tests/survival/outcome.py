"""What a run has to repeat byte for byte, and the few files and fields in which it may differ: times and attempts."""

import hashlib
import json
from pathlib import Path

from spotwise.training.loop import TIMINGS

# Files that tell how a run went, not what came of it
EXEMPT_FILES = {
    "logs": "when each step was done, and which attempt it was",
    "benchmarks": "seconds and memory of each job",
    "state": "of trainings under way; `leftovers` sees that none stays",
    "tables/costs.csv": "seconds of each training",
    "tables/cost_jobs.csv": "seconds of each training",
    "figures/costs.pdf": "draws them",
    "figures/costs.png": "draws them",
}
# Fields of files that are otherwise the same
EXEMPT_COLUMNS = {"history.tsv": TIMINGS}
EXEMPT_KEYS = {
    "summary.json": ("seconds", "started_times"),
    "provenance.json": ("time", "jobs", ("tables", "tables/costs.csv")),
}


def outcome(folder: Path, run: str = "demo") -> dict[str, str]:
    """SHA-256 of every file of a run's data and results, without what is exempt; hidden files are someone's scratch."""
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
            inner.pop(last, None)  # fits on features note no time
        return json.dumps(content).encode()
    return path.read_bytes()


def leftovers(folder: Path) -> list[str]:
    """Scratch files and training states that something has left behind."""
    hidden = [path for path in (folder / "results").rglob(".*") if path.is_file()]
    hidden += [path for path in (folder / "data").rglob(".*") if path.is_file()]
    states = [path for path in (folder / "results").glob("*/state/**/*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in hidden + states)
