"""Another workflow takes spotwise in as a module, from a folder of its own."""

import os
import shutil
import subprocess
import sys

import pytest
from pipeline import REPOSITORY, Pipeline, example

pytestmark = pytest.mark.workflow

WITH_OWN_CONFIGURATION = f"""
import yaml

with open("demo.yaml") as file:
    mine = yaml.safe_load(file)

module spotwise:
    snakefile: "{REPOSITORY}/Snakefile"
    config: mine

use rule * from spotwise as spotwise_*

rule everything:
    default_target: True
    input: "results/demo/tables/table1.csv", "results/demo/tables/leaks.csv"
"""

WITH_CONFIGFILE = f"""
configfile: "demo.yaml"

module spotwise:
    snakefile: "{REPOSITORY}/Snakefile"
    config: config

use rule * from spotwise
"""


def planned(folder, snakefile, *arguments):
    """Jobs by rule that another workflow plans in its folder, with the demo's configuration as it is shipped."""
    shutil.copy(REPOSITORY / "configs/demo.yaml", folder)  # its sample sheet is found beside the module's Snakefile
    (folder / "Snakefile").write_text(snakefile, encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit() and line[0] != "total"}


def test_a_module_plans_the_same_jobs_as_the_workflow_itself(tmp_path):
    alone = Pipeline(tmp_path, example("demo", tmp_path)).planned()
    (tmp_path / "other").mkdir()
    assert planned(tmp_path / "other", WITH_CONFIGFILE) == alone


def test_a_module_takes_a_configuration_and_new_names(tmp_path):
    jobs = planned(tmp_path, WITH_OWN_CONFIGURATION)
    assert jobs["everything"] == 1
    assert jobs["spotwise_train"] == 3 * (4 + 3)  # methods; slides and patients left out
    assert jobs["spotwise_audit"] == 1
    assert "all" not in jobs


WITH_A_TOOL = f"""
configfile: "external.yaml"

module spotwise:
    snakefile: "{REPOSITORY}/Snakefile"
    config: config

use rule * from spotwise

rule predict_colours:
    input: expand("results/external/tasks/demo/{{{{protocol}}}}/fold{{fold}}.h5ad", fold=range(3))
    output: "predictions/colours/{{protocol}}/{{sample}}.h5ad"
    shell: "touch {{output}}"
"""


def test_a_rule_of_another_workflow_may_make_the_predictions_of_a_tool(tmp_path):
    shutil.copy(REPOSITORY / "configs/external.yaml", tmp_path)
    jobs = planned(tmp_path, WITH_A_TOOL, "--", "results/external/tables/external.csv")
    assert (jobs["export_task"], jobs["predict_colours"], jobs["import_predictions"]) == (3 + 3, 4 + 4, 2)
