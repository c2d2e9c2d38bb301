"""Claims about runs on a SLURM cluster, compared with SLURM's own records."""

import json
import re
from datetime import datetime

import pytest

pytestmark = pytest.mark.slurm

ONCE = ("assemble_observed", "predict_test_slides", "score_retrieval")  # rules with one job for both folds
TRAIN = "train_wildcards_demo_paper_CMRCNet"
GPU_RULES = ("train", "predict_test_slides")


def gpus(job):
    """Return the number of GPUs that a job requested."""
    requested = re.search(r"gres[/:]gpu[:=](\d+)", job.get("TresPerJob", ""))
    return int(requested[1]) if requested else 0


def seconds(job):
    """Return the first and last second of a job."""
    return [datetime.fromisoformat(job[name]).timestamp() for name in ("StartTime", "EndTime")]


def requested(job):
    """Return the memory in MB and the time that a job requested."""
    memory = job["MinMemoryNode"]
    return float(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]], job["TimeLimit"]


@pytest.fixture
def jobs(cluster, demo):
    """Group the jobs of the demo's first run by rule, as that run left them."""
    rules = ("prepare_expression", "extract_patches", "assemble_fold", "train", *ONCE)
    return {rule: cluster.of_rule(rule)[: 1 if rule in ONCE else 2] for rule in rules}


# --- a run that goes well ---------------------------------------------------------------------------------------------


def test_every_rule_that_computes_runs_as_a_job_and_generating_data_does_not(cluster, demo, jobs):
    rules = [re.match(r"rule_([a-z_]+?)(_wildcards|$)", job["Comment"])[1] for job in cluster.jobs()]
    assert set(rules) == {*jobs, "broken", "slow", "cancelled"}
    assert {rule: len(submitted) for rule, submitted in jobs.items()} == dict.fromkeys(jobs, 2) | dict.fromkeys(ONCE, 1)
    assert {job["JobState"] for submitted in jobs.values() for job in submitted} == {"COMPLETED"}
    assert (demo.results / "benchmarks/generate_sample/S1.tsv").exists()


def test_jobs_that_compute_on_a_gpu_request_one_and_see_no_other(cluster, jobs):
    devices = cluster.devices()
    for rule in GPU_RULES:
        assert {gpus(job) for job in jobs[rule]} == {1}
        assert all(devices[job["JobId"]] in ({"0"}, {"1"}) for job in jobs[rule])
    for rule in jobs.keys() - GPU_RULES:
        assert {gpus(job) for job in jobs[rule]} == {0}
        assert all(devices[job["JobId"]] == {"none"} for job in jobs[rule])


def test_two_trainings_run_at_once_though_one_gpu_is_the_limit_of_local_runs(cluster, jobs):
    (begun, ended), (begun_too, ended_too) = map(seconds, jobs["train"])
    assert max(begun, begun_too) < min(ended, ended_too)
    first, second = (cluster.devices()[job["JobId"]] for job in jobs["train"])
    assert first != second


def test_each_job_runs_in_a_partition_that_allows_the_memory_and_time_of_its_rule(jobs):
    for rule, submitted in jobs.items():
        assert {job["Partition"] for job in submitted} == {"gpu" if rule in GPU_RULES else "cpu"}
    assert requested(jobs["train"][0]) == (32000, "08:00:00")
    assert requested(jobs["prepare_expression"][0]) == (4000, "01:00:00")


# --- runs that do not -------------------------------------------------------------------------------------------------


def test_a_requeued_training_resumes_and_ends_with_the_same_bits(cluster, demo, rerun):
    first, second = cluster.of_rule(f"{TRAIN}_0_0")
    assert first["Restarts"] == "0"
    assert (second["Restarts"], second["JobState"]) == ("1", "COMPLETED")
    summary = json.loads((demo.results / "models/demo/paper/CMRCNet/fold0/seed0/summary.json").read_text())
    assert summary["started_times"] == 2
    assert rerun.after == rerun.before


def test_a_failing_training_is_retried_as_often_as_the_profile_says_and_shows_its_error(cluster, demo, rerun):
    tried = cluster.of_rule("train_wildcards_demo_paper_Diverging")
    assert [job["JobState"] for job in tried] == ["FAILED", "FAILED"]
    assert [requested(job) for job in tried] == [(32000, "08:00:00"), (64000, "16:00:00")]
    assert rerun.status == 1
    assert re.search(r"epoch 1: train_total is nan; try a lower learning_rate", rerun.run.output)
    assert not (demo.results / "models/demo/paper/Diverging/fold0/seed0/weights.safetensors").exists()


def test_a_failing_job_leaves_no_partial_output_and_its_log_is_shown(cluster, troubles):
    tried = cluster.of_rule("broken")
    assert [job["JobState"] for job in tried] == ["FAILED"] * 3
    assert [requested(job) for job in tried] == [(200, "00:05:00"), (400, "00:10:00"), (600, "00:15:00")]
    assert not (troubles.log.parent / "broken.txt").exists()
    assert "Error: spots.tsv: found no spot" in troubles.output
    assert troubles.end() == 1


def test_a_job_past_its_time_limit_is_retried_with_more(cluster, troubles):
    tried = cluster.of_rule("slow")
    assert [job["JobState"] for job in tried] == ["TIMEOUT", "COMPLETED"]
    assert [job["TimeLimit"] for job in tried] == ["00:01:00", "00:02:00"]
    assert (troubles.log.parent / "slow.txt").read_text() == "whole\n"


def test_a_cancelled_job_counts_as_failed_and_is_retried(cluster, troubles):
    tried = cluster.of_rule("cancelled")
    assert [job["JobState"] for job in tried] == ["CANCELLED", "COMPLETED"]
    assert (troubles.log.parent / "cancelled.txt").read_text() == "whole\n"


# --- several folds in one job -----------------------------------------------------------------------------------------


def test_folds_that_share_a_job_share_its_gpu_and_end_with_the_same_bits(cluster, grouped):
    assert grouped.status == 0, grouped.output
    assert grouped.after == grouped.before
    [job] = [job for job in cluster.jobs() if "folds" in job["Comment"]]
    assert (gpus(job), job["JobState"]) == (1, "COMPLETED")
    assert len(cluster.devices()[job["JobId"]]) == 1
