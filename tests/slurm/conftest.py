"""The cluster and the runs on it that the tests examine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import INSTALL, PATIENCE, Cluster, available

from workflow.pipeline import REPOSITORY, Pipeline, example

LIMIT = 900  # seconds that a run may take on a busy machine; the executor knows ways to wait for ever
PROFILE = REPOSITORY / "profiles/slurm"
SUBMIT = ["--workflow-profile", str(PROFILE), "--slurm-init-seconds-before-status-checks", "1"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slurm" not in config.option.markexpr:
        reason = "starts a cluster of its own: make test-slurm"
    elif not available():
        reason = f"no SLURM here: {INSTALL}"
    else:
        return
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.skip(reason))


class Run:
    """A running Snakemake, ended with its context."""

    def __init__(self, command: list[str], cluster: Cluster, folder: Path, log: Path):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                ["timeout", "--signal=INT", "--kill-after=60", str(LIMIT), *command],
                cwd=folder,
                env=os.environ | cluster.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its jobs end with the cluster
            self.process.wait()

    def wait_until(self, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def end(self) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait()

    @property
    def output(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def started_troubles(cluster, tmp_path_factory) -> Iterator[Run]:
    """Start the jobs of ``troubles.smk``, one of which is then cancelled; they run beside the other runs."""
    folder = tmp_path_factory.mktemp("troubles")
    snakefile = Path(__file__).with_name("troubles.smk")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), *SUBMIT]
    with Run(command, cluster, folder, folder / "run.log") as run:
        run.wait_until(lambda: cluster.running("cancelled") and (folder / "cancelled.txt").exists())
        cluster.tell("scancel", cluster.running("cancelled"))
        yield run


@pytest.fixture(scope="session")
def troubles(started_troubles) -> Run:
    started_troubles.end()
    return started_troubles


@pytest.fixture(scope="session")
def demo(cluster, started_troubles, tmp_path_factory) -> Pipeline:
    """Run the demo on two slides on the cluster, from slides to scores."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "sheet.tsv").write_text("sample\tcohort\tpatient\nS1\tdemo\ta\nS2\tdemo\tb\n")
    config = example("demo", folder)
    config |= {"samples": str(folder / "sheet.tsv"), "protocols": ["paper"], "controls": []}
    config["data"]["generated"] = {"spots_across": 10}
    del config["structure"], config["evaluation"], config["predict"]
    config["expression"]["hvg_per_slide"] = 60
    # `auto` asks the cluster for GPUs as `cuda` does, and makes do with the CPU where they turn out to be none
    config["training"] |= {"device": "auto", "epochs": 20, "save_every_minutes": 1e-3}
    sizes = {"encoder_dim": 32, "encoder_depth": 1, "encoder_heads": 2, "embedding_dim": 32}
    config["methods"] = {
        "CMRCNet": {"options": sizes, "neighbours": [20]},
        "Diverging": {"model": "CMRCNet", "options": sizes, "neighbours": [20], "training": {"learning_rate": 1e30}},
    }
    pipeline = Pipeline(folder, config)
    partitions = ["--slurm-partition-config", str(PROFILE / "partitions.example.yaml")]
    target = "results/demo/scores/demo/paper/CMRCNet.parquet"
    command = pipeline.command(target, *SUBMIT, *partitions, "--resources", "gpu=1")
    with Run(command, cluster, REPOSITORY, folder / "run.log") as run:
        assert run.end() == 0, run.output
    return pipeline


@dataclass
class Rerun:
    run: Run
    status: int
    before: bytes  # weights of the training that was not disturbed
    after: bytes  # weights of the same training, requeued


@pytest.fixture(scope="session")
def rerun(cluster, demo) -> Rerun:
    """Repeat a training of the demo, requeued after it has saved a state, beside one that fails."""
    requeued, failing = (f"models/demo/paper/{method}/fold0/seed0" for method in ("CMRCNet", "Diverging"))
    weights = demo.results / requeued / "weights.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    targets = [f"results/demo/{model}/weights.safetensors" for model in (requeued, failing)]
    command = demo.command(*targets, *SUBMIT, "--retries", "1")
    name = "train_wildcards_demo_paper_CMRCNet_0_0"
    state = demo.results / "state/demo/paper/CMRCNet/fold0/seed0"
    with Run(command, cluster, REPOSITORY, demo.folder / "rerun.log") as run:
        run.wait_until(lambda: cluster.running(name) and list(state.glob("*/last.pt")))
        job = cluster.running(name)
        cluster.tell("scontrol", "requeue", job)
        run.wait_until(lambda: cluster.of_rule(name)[-1]["JobState"] == "PENDING")
        cluster.tell("scontrol", "update", f"jobid={job}", "StartTime=now")  # SLURM would wait for two minutes
        return Rerun(run, run.end(), before, weights.read_bytes())


@dataclass
class Grouped:
    status: int
    output: str
    before: list[bytes]  # weights of all folds, each trained in a job of its own
    after: list[bytes]  # the same, all trained in one


@pytest.fixture(scope="session")
def grouped(cluster, demo, rerun) -> Grouped:
    """Train all folds of the demo again in one job of the cluster."""
    paths = [f"models/demo/paper/CMRCNet/fold{fold}/seed0/weights.safetensors" for fold in range(2)]
    weights = [demo.results / path for path in paths]
    before = [path.read_bytes() for path in weights]
    for path in weights:
        path.unlink()
    groups = ["--groups", "train=folds", "--group-components", "folds=2", "--resources", "gpu=1"]
    command = demo.command(*(f"results/demo/{path}" for path in paths), *SUBMIT, *groups)
    with Run(command, cluster, REPOSITORY, demo.folder / "grouped.log") as run:
        status = run.end()
        return Grouped(status, run.output, before, [path.read_bytes() for path in weights if path.exists()])
