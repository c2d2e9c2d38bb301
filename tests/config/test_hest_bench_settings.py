"""Claims about the section `hest_bench`, which needs no cohorts."""

import copy

import jsonschema
import pytest

from configurations import at, complaint
from spotwise.config import prepare
from spotwise.config.json_schemas import schemas
from spotwise.config.settings import HEST_BENCH_TASKS

VALIDATOR = jsonschema.Draft202012Validator(schemas()["config.schema.yaml"])


@pytest.fixture
def bench():
    """Make a configuration of the benchmark alone."""
    return {
        "run": "b",
        "encoders": {"net": {"timm": "resnet18"}},
        "hest_bench": {"root": "data/hest-bench", "encoders": ["net"]},
    }


def test_the_benchmark_runs_without_cohorts_and_takes_all_tasks(bench):
    VALIDATOR.validate(bench)
    assert prepare(bench) == []
    assert bench["cohorts"] == {}
    assert bench["hest_bench"]["tasks"] == list(HEST_BENCH_TASKS)
    assert bench["hest_bench"]["repo"] == "MahmoodLab/hest-bench"
    assert "revision" not in bench["hest_bench"]


def test_a_completed_configuration_is_accepted_again(bench):
    prepare(bench)
    again = copy.deepcopy(bench)
    assert prepare(again) == []
    assert again == bench


def test_the_benchmark_runs_beside_cohorts(bench, small):
    config = small | {"encoders": bench["encoders"], "hest_bench": bench["hest_bench"]}
    assert [sample.sample for sample in prepare(config)] == ["A1", "A2", "B1"]


@pytest.mark.parametrize("key", ["samples", "data", "cohorts"])
def test_cohorts_need_all_of_their_settings_beside_the_benchmark_too(bench, small, key):
    config = small | {"encoders": bench["encoders"], "hest_bench": bench["hest_bench"]}
    del config[key]
    assert complaint(config).startswith(f"my.yaml: {key}: found nothing, expected ")


@pytest.mark.parametrize("section", ["methods", "structure"])
def test_sections_that_need_cohorts_are_refused_without_them(bench, small, tissue, section):
    assert complaint(at(bench, section, tissue[section])) == (
        f"my.yaml: {section}: found settings without cohorts, expected samples, data and cohorts beside them"
    )


def test_without_the_benchmark_nothing_can_be_left_out(bench):
    del bench["hest_bench"]
    assert not VALIDATOR.is_valid(bench)
    assert complaint(bench).startswith("my.yaml: samples: found nothing, expected a path (the sample sheet)")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("hest_bench.encoders", ["nett"], "hest_bench.encoders: found 'nett', expected a key of encoders: one of net"),
        ("hest_bench.encoders", [], "hest_bench.encoders: found []"),
        ("hest_bench.tasks", [], "hest_bench.tasks: found []"),
        ("hest_bench.tasks", ["IDC", "IDC"], "expected each value once"),
        ("hest_bench.tasks", ["../IDC"], "hest_bench.tasks.0: found '../IDC'"),
        ("hest_bench.revision", "main", "hest_bench.revision: found 'main', expected 40 hex digits"),
        ("hest_bench.repo", "hest-bench", "hest_bench.repo: found 'hest-bench', expected <owner>/<name>"),
        ("hest_bench.-root", None, "hest_bench.root: found nothing"),
        ("hest_bench.task", ["IDC"], "hest_bench.task: found an unknown key"),
        ("encoders.net.checkpoint", "nowhere.pth", "encoders.net.checkpoint: found no file nowhere.pth"),
    ],
)
def test_a_fault_is_said_in_one_line(bench, path, value, told):
    assert told in complaint(at(bench, path, value))
