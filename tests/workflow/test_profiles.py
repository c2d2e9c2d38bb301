"""Claims about the profiles: their settings, and the resources of each rule under them."""

import re
import subprocess
import sys
from collections import defaultdict

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import PartitionLimits, read_partition_file

from spotwise.runtime.provenance import DEVICE_RULES
from workflow.pipeline import REPOSITORY, Pipeline, copy_workflow, example

PROFILES = REPOSITORY / "profiles"
LOCAL_RULES = {"all", "paper", "generate_sample"}


def profile(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def requests(pipeline, attempt):
    """Return the resources of each rule's jobs at one attempt under the cluster profile."""
    arguments = ["--dry-run", "--quiet", "host", "--workflow-profile", str(PROFILES / "slurm")]
    done = pipeline.snakemake(*arguments, "--attempt", str(attempt))
    assert done.returncode == 0, done.stdout
    of_rule = defaultdict(set)
    for rule, text in re.findall(r"^(?:local)?rule (\w+):\n(?: .*\n)*?    resources: (.*)$", done.stdout, re.MULTILINE):
        resources = dict(entry.split("=", 1) for entry in text.split(", "))
        of_rule[rule].add(tuple(int(resources.get(name, 0)) for name in ("mem_mb", "runtime", "gpu")))
    return of_rule


def priorities(pipeline, *targets):
    """Map rules that ``targets`` need to their priorities."""
    done = pipeline.snakemake(*targets, "--dry-run", "--quiet", "host")
    assert done.returncode == 0, done.stdout
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: .*\n)*)", done.stdout, re.MULTILINE)
    return {rule: sum(map(int, re.findall(r"^    priority: (\d+)$", text, re.MULTILINE))) for rule, text in jobs}


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    """Copy the workflow without messages, which a dry run prints instead of resources."""
    repository = copy_workflow(tmp_path_factory.mktemp("repository"))
    for rules in (repository / "rules").glob("*.smk"):
        rules.write_text(re.sub(r"\n +message:\n.*", "", rules.read_text()))
    return repository


@pytest.fixture(scope="module")
def requested(tmp_path_factory, talkative):
    """Map rules to memory, minutes and GPUs of their jobs, at the first and the third attempt."""
    folder = tmp_path_factory.mktemp("run")
    config = example("demo", folder)
    config["training"]["device"] = "auto"
    pipeline = Pipeline(folder, config, talkative)
    return [requests(pipeline, attempt) for attempt in (1, 3)]


@pytest.mark.workflow
def test_every_job_requests_memory_and_time_and_more_at_each_attempt(requested):
    first, third = requested
    assert len(first) > 20
    for rule, jobs in first.items():
        for memory, minutes, gpus in jobs if rule not in LOCAL_RULES else ():
            assert 1000 <= memory <= 64_000, rule
            assert 30 <= minutes <= 24 * 60, rule
            assert third[rule] == {(3 * memory, 3 * minutes, gpus)}, rule


@pytest.mark.workflow
def test_only_jobs_that_compute_on_a_gpu_request_one(requested):
    assert {rule for rule, jobs in requested[0].items() if any(gpus for *_, gpus in jobs)} == {*DEVICE_RULES} - {
        "embed_bench_patches",  # of a run of the HEST benchmark
        "embed_slide_patches",  # for methods that the demo applies to no slide
    }


@pytest.mark.workflow
def test_trainings_go_first_then_what_they_wait_for_then_the_rest(tmp_path, talkative):
    pipeline = Pipeline(tmp_path, example("arena", tmp_path), talkative)
    of_rule = priorities(pipeline, "paper", "structure")
    trainings = {rule for rule in of_rule if rule.startswith("train")}
    # on patches alone, on an expression that is corrected, on exemplars, shuffled; on the slide that is organised
    models = [
        f"models/demo/paper/{method}/fold0/seed0" for method in ("CMRCNet", "BLEEP-Harmony", "EGN", "ShuffledTraining")
    ]
    models.append("structure/demo/models/MicNet/DEMO1/seed0")
    before = set(priorities(pipeline, *(f"results/arena/{model}/weights.safetensors" for model in models))) - trainings
    assert {of_rule[rule] for rule in trainings} == {2}
    assert {rule for rule, priority in of_rule.items() if priority == 1} == before
    assert {of_rule[rule] for rule in set(of_rule) - trainings - before} == {0}


@pytest.mark.workflow
def test_the_example_of_partitions_takes_the_third_attempt_of_every_rule(requested):
    partitions = [partition.limits for partition in read_partition_file(PROFILES / "slurm/partitions.example.yaml")]

    def takes(limits: PartitionLimits, memory, minutes, gpus):
        return memory <= limits.max_mem_mb and minutes <= limits.max_runtime and gpus <= limits.max_gpu

    for rule, jobs in requested[1].items():
        assert all(any(takes(limits, *job) for limits in partitions) for job in jobs), rule


def test_the_default_profile_names_no_machine_and_the_cluster_profile_repeats_it():
    """`--profile` adds the default profile to a profile, `--workflow-profile` replaces it: here both mean the same."""
    default, slurm = profile("default"), profile("slurm")
    general = {"nolock", "rerun-incomplete", "rerun-triggers", "show-failed-logs", "logger", "keep-going"}
    assert set(default) <= general
    assert default.items() <= slurm.items()


def test_no_submitted_rule_has_its_own_retries_which_would_rerun_inside_the_first_allocation():
    files = [REPOSITORY / "Snakefile", *(REPOSITORY / "rules").glob("*.smk")]
    rules = [rule for file in files for rule in re.split(r"^ *rule (?=\w+:)", file.read_text(), flags=re.MULTILINE)]
    assert not [
        rule for rule in rules if re.search(r"^ +retries:", rule, re.MULTILINE) and "localrule: True" not in rule
    ]
    assert profile("slurm")["retries"] >= 1


def test_the_cluster_profile_prevents_known_causes_of_endless_waits_and_silent_failures():
    slurm = profile("slurm")
    assert slurm["slurm-status-command"] == "squeue"
    assert slurm["slurm-status-attempts"] >= 1000
    assert slurm["slurm-requeue"] is True
    assert "slurm-array-jobs" not in slurm
    assert "quiet" not in slurm, "hides messages in the full log, too"
    assert "resources" not in slurm


def test_every_line_of_the_clusters_profile_is_explained():
    above = ""
    for line in (PROFILES / "slurm/config.yaml").read_text().splitlines():
        assert not line or "#" in line or above.startswith("#") or line.endswith(":"), line
        above = line


THROTTLED = """
{scopes}

rule all:
    input: "1", "2"

rule train:
    output: "{{gpu}}"
    resources: gpu=1
    shell: "date +%s%N > {{output}}; sleep 0.5; date +%s%N >> {{output}}"
"""


@pytest.mark.workflow
def test_on_one_machine_jobs_take_turns_on_one_gpu(tmp_path):
    snakefile = (REPOSITORY / "Snakefile").read_text()
    scopes = re.search(r"^resource_scopes:\n(?:    .*\n)+", snakefile, re.MULTILINE)[0]
    (tmp_path / "Snakefile").write_text(THROTTLED.format(scopes=scopes))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=1", "--quiet", "all"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (begun, ended), (begun_too, ended_too) = sorted([int(t) for t in (tmp_path / n).read_text().split()] for n in "12")
    assert begun < ended < begun_too < ended_too
