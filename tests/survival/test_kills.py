"""Claims about killed runs: never a wrong file, and in the end the bytes of an undisturbed run.

`SPOTWISE_KILL_POINTS` (default 28) and `SPOTWISE_KILL_SEED` (default 0) choose how often and when.
"""

import collections
import itertools
import json
import os
import random
import shutil
import signal
import time

import psutil
import pytest
from outcome import leftovers, outcome
from running import own_copy, small

pytestmark = [pytest.mark.long, pytest.mark.workflow]

POINTS = int(os.environ.get("SPOTWISE_KILL_POINTS", "28"))
SEED = int(os.environ.get("SPOTWISE_KILL_SEED", "0"))
RESULTS = "results/demo"
PHASES = {  # rule, and a file or folder that it makes
    "data": ("generate_sample", "data/st/DEMO2.h5ad"),
    "patches": ("extract_patches", f"{RESULTS}/samples/DEMO2/patches.h5"),
    "training": ("train", f"{RESULTS}/models/demo/patient/CMRCNet/fold1/seed0/weights.safetensors"),
    "prediction": ("predict_test_slides", f"{RESULTS}/predictions/demo/patient/CMRCNet"),
    "tables": ("tables", f"{RESULTS}/tables/table1.csv"),
    "figures": ("draw_slide", f"{RESULTS}/figures/demo/patient/maps_DEMO2.png"),
}
KINDS = ("SIGTERM to the job", "SIGKILL to the job", "SIGKILL to Snakemake alone", "SIGKILL to everything", "Ctrl-C")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return own_copy(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, repository):
    pipeline = small(tmp_path_factory.mktemp("undisturbed"), repository)
    pipeline.finish()
    pipeline.outcome = outcome(pipeline.folder)
    assert len(pipeline.outcome) > 80
    assert leftovers(pipeline.folder) == []
    return pipeline


def reached(pipeline, run, rule, after):
    """Wait until a job of a rule has run for some seconds; return ``None`` if it ended sooner or never began."""
    job = pipeline.wait_for(rule, run)
    if job is not None:
        try:
            job.wait(after)
        except psutil.TimeoutExpired:
            return job
    return None


def remove(path):
    """Remove an output, a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def strike(run, job, kind):
    """Kill a job, Snakemake or both, and wait for the end of the run."""
    if kind == "SIGKILL to everything":
        os.killpg(run.pid, signal.SIGKILL)
    elif kind == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)
    elif kind == "SIGKILL to Snakemake alone":
        os.kill(run.pid, signal.SIGKILL)
    else:
        os.kill(job.pid, signal.SIGTERM if kind.startswith("SIGTERM") else signal.SIGKILL)
    run.wait()


def plan(points, seed):
    """Draw passes over the pipeline: phases in order, each with a kind of kill and a moment (share of a job's time)."""
    rng = random.Random(seed)
    every = list(itertools.product(PHASES, KINDS))
    while points > 0:
        chosen = rng.sample(every, min(points, len(every)))
        points -= len(chosen)
        order = list(PHASES)
        yield [(phase, kind, rng.uniform(0, 0.5)) for phase, kind in sorted(chosen, key=lambda c: order.index(c[0]))]


def torment(pipeline, undisturbed, strikes):
    """Kill and restart a run until its end; count the survived kills by phase and kind."""
    survived = collections.Counter()
    for phase, kind, moment in strikes:
        rule, made = PHASES[phase]
        remove(pipeline.folder / made)  # so that the rule has something to do, if for the second time
        pipeline.unlock()
        run = pipeline.launch()
        job = reached(pipeline, run, rule, moment * undisturbed.seconds(rule))
        if job is None:  # done, maybe by orphans of the last strike: on to the next
            if run.poll() is None:
                strike(run, job, "SIGKILL to everything")
            continue
        strike(run, job, kind)
        # What is there under its name is whole and right
        assert wrong(pipeline, undisturbed) == set(), f"after {kind} during {phase}, at {moment:.2f}"
        survived[phase, kind] += 1
        print(f"{phase}: {kind} at {moment:.2f}", flush=True)
    pipeline.finish()
    while pipeline.jobs():  # the last orphans
        time.sleep(0.1)
    assert outcome(pipeline.folder) == undisturbed.outcome
    assert leftovers(pipeline.folder) == []
    return survived


def wrong(pipeline, undisturbed):
    """List files whose content differs from the reference."""
    return {name for name, digest in outcome(pipeline.folder).items() if undisturbed.outcome[name] != digest}


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(undisturbed, repository, tmp_path, capsys):
    survived = collections.Counter()
    for number, strikes in enumerate(plan(POINTS, SEED)):
        survived += torment(small(tmp_path / f"pass{number}", repository), undisturbed, strikes)
    with capsys.disabled():
        print(f"\n{sum(survived.values())} kill points of {POINTS} reached and survived")
        for (phase, kind), times in sorted(survived.items()):
            print(f"  {times:3d}  {phase}: {kind}")
    assert sum(survived.values()) >= POINTS * 2 / 3  # some jobs end before their moment comes


def without_models(undisturbed, folder, repository, **training):
    """Repeat the undisturbed run up to its trainings."""
    pipeline = small(folder, repository, **training)
    shutil.copytree(undisturbed.folder, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "results/demo/models")
    return pipeline


def test_a_second_run_in_the_same_folder_stops_and_harms_nothing(undisturbed, repository, tmp_path):
    pipeline = without_models(undisturbed, tmp_path / "run", repository)
    first = pipeline.launch()
    assert pipeline.wait_for("train", first)
    second = pipeline.snakemake("--cores", "1")
    assert second.returncode != 0
    assert f"another run writes here (process {first.pid} on " in second.stdout
    assert first.wait() == 0
    assert outcome(pipeline.folder) == undisturbed.outcome


def test_two_runs_that_ignore_the_lock_do_not_corrupt_each_other(undisturbed, repository, tmp_path):
    pipeline = without_models(undisturbed, tmp_path / "run", repository)
    runs = [pipeline.launch("--no-hooks", cores=1) for _ in range(2)]
    for run in runs:
        run.wait()  # one may fail on a file that the other is making
    assert wrong(pipeline, undisturbed) == set()
    pipeline.finish()
    assert outcome(pipeline.folder) == undisturbed.outcome
    assert leftovers(pipeline.folder) == []


def test_an_orphaned_training_is_named_and_its_state_is_taken_over_once_it_is_gone(undisturbed, tmp_path):
    repository = own_copy(tmp_path / "repository")
    source = repository / "src/spotwise/training/checkpoints.py"
    source.write_text(source.read_text().replace("HANDOVER_SECONDS = 60", "HANDOVER_SECONDS = 1"))
    pipeline = without_models(undisturbed, tmp_path / "run", repository, epochs=60)
    weights = "results/demo/models/demo/patient/CMRCNet/fold0/seed0/weights.safetensors"
    run = pipeline.launch(weights)
    orphan = pipeline.wait_for("train", run)
    while not list(pipeline.results.glob("state/**/last.pt")):
        time.sleep(0.05)
    run.kill()
    run.wait()
    pipeline.unlock()
    again = pipeline.snakemake("--cores", "1", weights)
    assert again.returncode != 0
    line = next(line for line in again.stdout.splitlines() if line.startswith("Error: "))
    assert f"another process is training this (process {orphan.pid} on " in line
    orphan.terminate()
    orphan.wait()
    pipeline.finish(weights)
    summary = json.loads((pipeline.folder / weights).with_name("summary.json").read_text())
    assert summary["started_times"] == 2
