"""Claims about training states: one process at a time, named when it is in the way, and no damage that lasts."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from spotwise.errors import SetupError
from spotwise.runtime import devices
from spotwise.training import checkpoints
from spotwise.training.checkpoints import LAST, State, locked

SOURCE = str(Path(checkpoints.__file__).parents[2])


@pytest.fixture
def state(tmp_path):
    """Save a state of some size."""
    state = State(tmp_path / "root", "a")
    state.save({"model": torch.arange(100_000)})
    return state


def test_what_was_saved_is_loaded(state):
    assert torch.equal(state.load()["model"], torch.arange(100_000))
    assert State(state.root, "b").load() is None


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def zero_the_end(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


@pytest.mark.parametrize("damage", [cut, empty, zero_the_end, lambda path: path.write_bytes(os.urandom(5000))])
def test_a_damaged_state_is_reported_and_training_starts_again(state, damage, caplog):
    damage(state.folder / LAST)
    with caplog.at_level(logging.WARNING):
        assert state.load() is None
    assert re.search(r"/a: damaged \(.+\): the training starts again$", caplog.messages[0])
    assert "\n" not in caplog.messages[0]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(devices.HOST_ALLOCATION), PermissionError()])
def test_a_state_that_only_could_not_be_read_this_time_is_kept(state, monkeypatch, error):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        state.load()


HOLD = """
import sys, time
from spotwise.training.checkpoints import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the state."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "root")],
        env={"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_process_in_the_way_is_named_with_what_to_do(other, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "HANDOVER_SECONDS", 0)
    message = rf"root: another process .* \(process {other.pid} on \S+, since .+\).*: wait until it is done or stop it"
    with pytest.raises(SetupError, match=message), locked(tmp_path / "root"):
        pass
    assert other.poll() is None


def test_a_process_that_is_about_to_end_is_waited_for(other, tmp_path, caplog):
    threading.Timer(0.5, os.kill, (other.pid, signal.SIGKILL)).start()
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING), locked(tmp_path / "root"):
        assert 0.4 < time.monotonic() - begun < 5
    assert f"held by process {other.pid}" in caplog.messages[0]


def test_one_training_is_held_whatever_its_parameters(state, monkeypatch):
    """Both would write the same weights."""
    monkeypatch.setattr(checkpoints, "HANDOVER_SECONDS", 0)
    with locked(state.root), pytest.raises(SetupError), locked(state.root):
        pass
    assert state.load() is not None


def test_a_lock_that_guards_nothing_is_removed(tmp_path):
    with locked(tmp_path / "root"):
        pass
    assert not (tmp_path / "root").exists()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "root"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "root").exists()
