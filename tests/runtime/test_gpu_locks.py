"""Claims about GPU locks: one job per GPU, released when a job is killed, and only GPUs assigned to the job."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spotwise.errors import SetupError
from spotwise.runtime import gpu_locks
from spotwise.runtime.gpu_locks import installed_gpus, lock_folder, visible_gpus

SOURCE = str(Path(gpu_locks.__file__).parents[2])

TWO = "GPU 0: NVIDIA H200 (UUID: GPU-aaaa-1)\nGPU 1: NVIDIA H200 (UUID: GPU-bbbb-2)\n"
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-cccc-3)
  MIG 3g.20gb     Device  1: (UUID: MIG-dddd-4)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-2)
"""

JOB = """
import logging, sys, time
from spotwise.runtime import gpu_locks
gpu_locks.POLL_SECONDS = 0.01
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
name = gpu_locks.allocate()
print(name, time.monotonic(), flush=True)
time.sleep(float(sys.argv[1]))
print(time.monotonic(), flush=True)
"""


@pytest.fixture
def machine(tmp_path):
    """Environment of a machine whose ``nvidia-smi`` prints a given listing."""

    def with_gpus(listing, **environment):
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin/nvidia-smi"
        program.write_text(f"#!/bin/sh\ntest \"$1\" = -L && cat <<'END'\n{listing}END\n")
        program.chmod(0o755)
        clean = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        paths = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONPATH": SOURCE}
        return clean | paths | environment

    return with_gpus


def start(environment, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def allocation(job):
    """Wait for a job; return its GPU and when it began and ended."""
    out, err = job.communicate(timeout=30)
    assert job.returncode == 0, err
    name, begin, end = out.split()
    return name, float(begin), float(end)


# --- locks ------------------------------------------------------------------------------------------------------------


def test_five_jobs_on_two_gpus_never_share_one_and_all_finish(machine):
    environment = machine(TWO)
    turns = [allocation(job) for job in [start(environment, 0.3) for _ in range(5)]]
    by_gpu = {gpu: sorted(turn[1:] for turn in turns if turn[0] == gpu) for gpu in ("GPU-aaaa-1", "GPU-bbbb-2")}
    assert sum(map(len, by_gpu.values())) == 5
    assert min(map(len, by_gpu.values())) >= 2  # both were used
    for turns in by_gpu.values():
        for (_, end), (begin, _) in itertools.pairwise(turns):
            assert end <= begin


def test_a_killed_job_frees_its_gpu_at_once_and_a_waiting_job_logs_the_holder(machine):
    environment = machine(TWO, CUDA_VISIBLE_DEVICES="1")
    first = start(environment, 60)
    assert first.stdout.readline().startswith("GPU-bbbb-2 ")
    second = start(environment, 0)
    warning = second.stderr.readline()
    assert re.search(rf"all 1 GPUs .* in use \(process {first.pid} on \S+, since \S+\): waiting", warning)
    os.kill(first.pid, signal.SIGKILL)
    killed = time.monotonic()
    assert allocation(second)[1] - killed < 1
    first.communicate()


def test_only_gpus_assigned_to_the_job_are_locked(machine):
    other = start(machine(TWO, CUDA_VISIBLE_DEVICES="0"), 60)
    assert other.stdout.readline().startswith("GPU-aaaa-1 ")
    assert allocation(start(machine(TWO, CUDA_VISIBLE_DEVICES="0,1"), 0))[0] == "GPU-bbbb-2"
    # the same GPU by its UUID is the same GPU
    assert allocation(start(machine(TWO, CUDA_VISIBLE_DEVICES="GPU-aaaa-1,GPU-bbbb-2"), 0))[0] == "GPU-bbbb-2"
    other.kill()
    other.communicate()


def test_gpus_that_slurm_numbers_from_0_in_each_job_are_told_apart(machine):
    """Under SLURM's device constraint each job sees only its own GPU, as number 0."""
    one, other = TWO.splitlines(keepends=True)
    first = start(machine(one, CUDA_VISIBLE_DEVICES="0"), 60)
    assert first.stdout.readline().startswith("GPU-aaaa-1 ")
    assert allocation(start(machine(other.replace("GPU 1", "GPU 0"), CUDA_VISIBLE_DEVICES="0"), 0))[0] == "GPU-bbbb-2"
    first.kill()
    first.communicate()


def test_a_process_keeps_its_gpu_and_cuda_sees_no_other(machine, monkeypatch, tmp_path):
    for key, value in machine(TWO).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_locks.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpu_locks, "_lock", None)
    assert gpu_locks.allocate() == os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa-1"
    assert gpu_locks.allocate() == "GPU-aaaa-1"
    assert (lock_folder("gpus") / "GPU-aaaa-1.lock.holder").read_text().startswith(f"process {os.getpid()} on ")
    gpu_locks._lock.release()


def test_without_a_gpu_none_is_locked(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_locks.allocate() is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


# --- which GPUs -------------------------------------------------------------------------------------------------------


def test_installed_gpus_are_those_that_nvidia_smi_lists(machine, monkeypatch):
    monkeypatch.setenv("PATH", machine(TWO)["PATH"])
    assert installed_gpus() == [["GPU-aaaa-1"], ["GPU-bbbb-2"]]
    machine(DIVIDED)
    assert installed_gpus() == [["MIG-cccc-3", "MIG-dddd-4"], ["GPU-bbbb-2"]]
    machine("No devices were found\n")
    assert installed_gpus() == []


WHOLE = [["GPU-aaaa-1"], ["GPU-bbbb-2"]]


@pytest.mark.parametrize(
    ("variable", "locks"),
    [
        (None, {"GPU-aaaa-1": "GPU-aaaa-1", "GPU-bbbb-2": "GPU-bbbb-2"}),
        ("", {}),
        ("1", {"1": "GPU-bbbb-2"}),
        ("1, 0", {"1": "GPU-bbbb-2", "0": "GPU-aaaa-1"}),
        ("GPU-b", {"GPU-b": "GPU-bbbb-2"}),
        ("GPU-", {}),  # of both
        ("0,7,1", {"0": "GPU-aaaa-1"}),
        ("-1,0", {}),
        ("NoDevFiles", {}),  # what SLURM writes for a job without a GPU
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(variable, locks):
    assert visible_gpus(WHOLE, variable) == locks
    assert list(visible_gpus(WHOLE, variable)) == list(locks)  # the first choice first


def test_parts_of_a_divided_gpu_are_locked_one_by_one():
    divided = [["MIG-cccc-3", "MIG-dddd-4"], ["GPU-bbbb-2"]]
    assert list(visible_gpus(divided, None)) == ["MIG-cccc-3", "MIG-dddd-4", "GPU-bbbb-2"]
    assert visible_gpus(divided, "0") == {"0": "MIG-cccc-3"}  # the one that CUDA takes
    assert visible_gpus(divided, "MIG-dddd-4") == {"MIG-dddd-4": "MIG-dddd-4"}


def test_without_nvidia_smi_the_names_in_the_variable_are_locked():
    assert visible_gpus([], "2,GPU-aaaa") == {"2": "2", "GPU-aaaa": "GPU-aaaa"}
    assert visible_gpus([], "NoDevFiles") == visible_gpus([], None) == {}


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_locks.tempfile, "tempdir", str(tmp_path))
    assert lock_folder("gpus").is_relative_to(tmp_path)
    assert oct(lock_folder("gpus").stat().st_mode)[-3:] == "700"
    mine = os.getuid()
    os.symlink(lock_folder("gpus").parent, tmp_path / f"spotwise-{mine + 1}")
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(SetupError, match="belongs to another user"):
        lock_folder("gpus")
