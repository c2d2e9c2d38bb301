"""Which tasks, encoders and files a section `hest_bench` asks for."""

import pytest
from planning import planned, wildcards

from benchtask import write_bench_task
from spotwise import config as configuration
from spotwise.errors import InputError
from spotwise.workflow import BenchPlan, Plan, StructurePlan

REVISION = "0123456789abcdef0123456789abcdef01234567"


def bench_of(root, **changes):
    settings = {"root": str(root), "tasks": ["IDC", "SKCM"], "encoders": ["net", "other"]}
    config = {
        "run": "b",
        "encoders": {"net": {"timm": "resnet18"}, "other": {"timm": "resnet18"}, "third": {"timm": "resnet18"}},
        "hest_bench": settings | changes,
    }
    return BenchPlan(Plan(config, configuration.prepare(config)))


def test_a_run_of_the_benchmark_alone_makes_its_table_and_nothing_else(tmp_path):
    bench = bench_of(tmp_path)
    assert bench.outputs == ["tables/hest_bench.csv", "tables/hest_bench.md"]
    plan = bench.plan
    assert plan.tables == plan.figures == plan.samples == StructurePlan(plan).outputs == []
    assert plan.folds == plan.predictors == plan.models == {}
    assert bench.runs == ["IDC/net", "SKCM/net", "IDC/other", "SKCM/other"]


def test_a_run_without_the_section_asks_for_nothing(tmp_path):
    bench = BenchPlan(planned(tmp_path))
    assert bench.tasks == bench.runs == bench.outputs == []
    assert bench.manifests == {}
    bench.require_tasks()


def test_targets_depend_on_all_files_of_their_task(tmp_path):
    task = write_bench_task(tmp_path / "IDC", px=8)
    bench = bench_of(tmp_path, tasks=["IDC"])
    bench.require_tasks()
    assert set(bench.task_files(wildcards(task="IDC"))) == {str(path) for path in task.rglob("*.*")}
    assert bench.manifests == {}


def test_targets_of_a_download_depend_on_its_manifest(tmp_path):
    bench = bench_of(tmp_path, revision=REVISION)
    assert bench.task_files(wildcards(task="SKCM")) == [f"{tmp_path}/downloads/{REVISION}/SKCM.json"]
    assert list(bench.manifests) == ["IDC", "SKCM"]
    bench.require_tasks()  # what is not there yet will be fetched


def test_a_missing_task_is_refused_before_any_job(tmp_path):
    write_bench_task(tmp_path / "IDC", px=8)
    with pytest.raises(InputError, match="SKCM: task: found no folder"):
        bench_of(tmp_path).require_tasks()
