"""Benchmark of the start of a job, up to the first line of its work."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from snakemake import iocontainers
from snakemake.script import PythonScript
from snakemake.sourcecache import LocalSourceFile

from benchmarks.machine import Machine
from benchmarks.table import AtMost, Row
from benchmarks.timing import ROOT, Ratio, Times
from spotwise.config import read_config

SCRIPTS = ROOT / "workflow_scripts"
REPEATS = 5
LIGHT_REPEATS = 1  # of each of some forty scripts
DEMO = read_config(ROOT / "configs" / "demo.yaml")
# Model, optimiser and random generators, which a training job builds before its first step
BUILD = f"""
import torch
from spotwise.models.sizes import Sizes
from spotwise.training.loop import Run
from spotwise.training.training_options import TrainingOptions
options = {DEMO["methods"]["CMRCNet"]["options"]}
Run(Sizes(200, 13), "CMRCNet", options, TrainingOptions(device="cpu"), 0, torch.device("cpu"), fresh=True)
"""


def start(script: Path) -> str:
    """Return the code of a job up to its work: Snakemake's preamble and the script's imports."""
    empty = (iocontainers.InputFiles(), iocontainers.OutputFiles(), iocontainers.Params(), iocontainers.Wildcards())
    settings = {"resources": iocontainers.ResourceList(), "log": iocontainers.Log(), "config": DEMO}
    unused = ("conda_env", "container_img", "singularity_args", "env_modules", "bench_record", "jobid", "shadow_dir")
    preamble = PythonScript.generate_preamble(
        LocalSourceFile(str(script)),
        None,
        "",
        str(SCRIPTS),
        *empty,
        threads=1,
        rulename=script.stem,
        bench_iteration=None,
        cleanup_scripts=True,
        is_local=True,
        **settings,
        **dict.fromkeys(unused),
    )
    return preamble + imports(script)


def imports(script: Path) -> str:
    """Return the import statements at the top of a script."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def run(code: str, *, outcome: Path) -> tuple[float, float]:
    """Run ``code`` in a new Python process; return wall and CPU seconds.

    ``outcome`` receives its output.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script, outcome.open("w") as out:
        script.write(code)
        script.flush()
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, script.name], env=environment, check=True, stdout=out)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turns(codes: dict[str, str], repeats: int) -> dict[str, Times]:
    """Run each code as a process once per repeat, after a first round that is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    for _ in range(repeats + 1):
        for name, code in codes.items():
            taken[name].append(run(code, outcome=Path(os.devnull)))
    return {name: Times(*zip(*runs[1:], strict=True)) for name, runs in taken.items()}


def light(scripts: Sequence[Path]) -> list[Path]:
    """Select the scripts that start without torch."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "modules"
        for script in scripts:
            run(imports(script) + "\nimport sys\nprint(*sys.modules)", outcome=printed)
            if "torch" not in printed.read_text().split():
                found.append(script)
    return found


def rows(machine: Machine) -> list[Row]:
    """Measure the start of a training job against torch's import, and that of light jobs."""
    scripts = light(sorted(SCRIPTS.glob("*.py")))
    times = in_turns({"torch": "import torch", "training": start(SCRIPTS / "train.py") + BUILD}, REPEATS)
    lights = in_turns({script.stem: start(script) for script in scripts}, LIGHT_REPEATS)
    wall = {name: time.median for name, time in lights.items()}
    cpu = {name: median(time.cpu) for name, time in lights.items()}
    worst = max(cpu, key=cpu.get)
    work = "start of a job: Snakemake's preamble and the script's imports"
    return [
        Row(
            work,
            "training job, its model and optimiser built / `import torch`",
            Ratio.of(times["training"], times["torch"]),
            AtMost(1.5),
            note=f"{median(times['training'].cpu):.1f} s against {median(times['torch'].cpu):.1f} s of CPU time",
        ),
        Row(
            work,
            f"seconds, median of the {len(scripts)} scripts without torch",
            Ratio(median(wall.values()), min(wall.values()), max(wall.values()), median(cpu.values())),
            AtMost(1),
        ),
        Row(
            work,
            "seconds, the slowest of them",
            Ratio(wall[worst], min(lights[worst].wall), max(lights[worst].wall), cpu[worst]),
            AtMost(1),
            note=f"`{worst}`",
        ),
    ]
