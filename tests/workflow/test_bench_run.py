"""A run of the HEST benchmark from the download to the table, and what stops one."""

import json

import pandas as pd
import pytest
from pipeline import Pipeline, example

from benchtask import FOLDS, write_bench_task
from fakehub import COMMIT, TOKEN, FakeHub

pytestmark = pytest.mark.workflow
REPO = "MahmoodLab/hest-bench"
ENCODERS = {"small": {"timm": "test_resnet", "pretrained": "no"}}


def pipeline_of(folder, **settings):
    config = {
        "run": "bench",
        "encoders": ENCODERS,
        "training": {"device": "cpu", "threads": 1},
        "hest_bench": {"root": str(folder / "data"), "tasks": ["IDC"], "encoders": ["small"], **settings},
    }
    return Pipeline(folder, config)


def test_a_task_is_downloaded_scored_and_set_beside_the_published_numbers(tmp_path):
    write_bench_task(tmp_path / "hub/IDC", px=32)
    pipeline = pipeline_of(tmp_path, revision=COMMIT)
    with FakeHub(tmp_path / "hub", repo=REPO) as hub:
        told = pipeline.run(HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
    assert "HEST benchmark: results/bench/tables/hest_bench.md" in told
    table = pd.read_csv(pipeline.results / "tables/hest_bench.csv")
    (row,) = table.to_dict("records")
    assert (row["encoder"], row["timm"], row["task"], row["n_folds"]) == ("small", "test_resnet", "IDC", len(FOLDS))
    assert (row["n_slides"], row["n_spots"], row["n_spots_without_patch"], row["n_genes"]) == (4, 127, 3, 50)
    assert -1 < row["pcc"] < row["pcc_cv"] < 1  # the made-up patches show what the expression depends on
    assert "random weights" in row["note"]
    assert pd.isna(row["published"])
    record = json.loads((pipeline.results / "provenance.json").read_text())
    assert {file["path"] for file in record["downloads"]["hest_bench/IDC"]} >= {"IDC/var_50genes.json"}
    assert "tables/hest_bench.csv" in record["tables"]
    assert pipeline.planned() == {}


def test_a_task_that_lies_there_is_planned_and_a_malformed_one_refused_in_one_line(tmp_path):
    task = write_bench_task(tmp_path / "data/IDC", px=8)
    pipeline = pipeline_of(tmp_path)
    jobs = pipeline.planned()
    rules = ("assemble_bench_task", "embed_bench_patches", "score_bench", "tabulate_hest_bench")
    assert {rule: jobs.get(rule) for rule in rules} == dict.fromkeys(rules, 1)
    assert "fetch_bench_task" not in jobs
    (task / "splits/test_1.csv").unlink()
    done = pipeline.snakemake("--cores", "1")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert "splits: found no test_1.csv" in line


def test_a_download_without_access_ends_in_one_line(tmp_path):
    write_bench_task(tmp_path / "hub/IDC", px=8)
    pipeline = pipeline_of(tmp_path, revision=COMMIT)
    with FakeHub(tmp_path / "hub", repo=REPO) as hub:
        target = f"{tmp_path}/data/downloads/{COMMIT}/IDC.json"
        done = pipeline.snakemake("--cores", "1", target, HF_TOKEN="", HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert "IDC: access needs a token: set HF_TOKEN and accept the terms at " in line


def test_the_example_asks_for_every_task_and_its_own_encoders(tmp_path):
    config = example("hest_bench", tmp_path)
    config["hest_bench"] |= {"root": str(tmp_path / "data"), "revision": COMMIT}
    jobs = Pipeline(tmp_path, config).planned()
    assert {name: n for name, n in jobs.items() if "bench" in name} == {
        "fetch_bench_task": 9,
        "assemble_bench_task": 9,
        "embed_bench_patches": 18,
        "score_bench": 18,
        "tabulate_hest_bench": 1,
    }
