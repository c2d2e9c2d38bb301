"""The claim that the time to plan a run grows no faster than the run."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.planning import write_configuration
from benchmarks.timing import ROOT

# Plans a run and counts the lines that each function of the workflow and the package executes, loops within included
COUNT = """
import json, sys
from collections import Counter
from snakemake.cli import main

root, found = sys.argv[1], sys.argv[2]
sources = tuple(f"{root}/{name}" for name in ("rules", "src", "Snakefile"))
lines = Counter()

def count(frame, event, argument):
    if event == "line":
        lines[f"{frame.f_code.co_filename.removeprefix(root)}: {frame.f_code.co_qualname}"] += 1
    return count

sys.settrace(lambda frame, event, argument: count if frame.f_code.co_filename.startswith(sources) else None)
try:
    main(["--dry-run", "--quiet", "all", "--configfile", sys.argv[3]])
finally:
    sys.settrace(None)
    with open(found, "w") as file:
        json.dump(lines, file)
"""


def lines_to_plan(folder, slides):
    """Count the lines that each function executes to plan a run."""
    folder.mkdir()
    arguments = [str(ROOT), str(folder / "lines.json"), str(write_configuration(folder, slides))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", COUNT, *arguments], cwd=ROOT, env=environment, capture_output=True)
    return json.loads((folder / "lines.json").read_text())


@pytest.mark.long  # plans 5,300 jobs, traced
def test_no_function_takes_more_than_twice_the_steps_for_twice_the_slides(tmp_path):
    few, some, many = (lines_to_plan(tmp_path / str(slides), slides) for slides in (5, 10, 20))
    assert sum(many.values()) > 50_000
    growth = {
        name: (many[name] - some[name]) / (some[name] - few.get(name, 0))
        for name in some
        if some[name] - few.get(name, 0) > 20
    }
    assert len(growth) > 30
    worst = max(growth, key=growth.get)
    assert growth[worst] < 2.05, worst
