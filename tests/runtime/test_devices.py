"""Claims about devices: locked before CUDA is queried, and one line with a remedy when memory is full."""

import re

import numpy as np
import pytest
import torch

from spotwise.errors import SetupError
from spotwise.runtime import devices, gpu_locks


@pytest.fixture
def calls(monkeypatch):
    """Record calls of gpu_locks and torch, in order, on a machine with a GPU."""
    order = []
    monkeypatch.setattr(gpu_locks, "allocate", lambda: order.append("lock"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: order.append("torch") or True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "NVIDIA H200")
    return order


@pytest.mark.parametrize("setting", ["cuda", "auto"])
def test_a_gpu_is_locked_before_torch_is_queried(calls, setting):
    assert devices.choose(setting).type == "cuda"
    assert calls == ["lock", "torch"]


def test_the_cpu_needs_no_lock(calls):
    assert devices.choose("cpu").type == "cpu"
    assert calls == []


@pytest.mark.parametrize(("setting", "found"), [("auto", "cpu"), ("cuda", None)])
def test_without_a_gpu_auto_selects_the_cpu_and_cuda_stops(monkeypatch, setting, found):
    monkeypatch.setattr(gpu_locks, "allocate", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if found:
        assert devices.choose(setting).type == found
    else:
        with pytest.raises(SetupError, match=r"^training.device is cuda and torch sees no GPU: "):
            devices.choose(setting)


@devices.explain_out_of_memory("lower training.batch_size")
def work(fault):
    return fault()


def test_a_gpu_out_of_memory_is_one_line_with_the_remedy(calls):
    def fault():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but unallocated ...")

    with pytest.raises(SetupError) as raised:
        work(fault)
    expected = "NVIDIA H200 is out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): "
    assert str(raised.value) == f"{expected}lower training.batch_size"


@pytest.mark.parametrize("fault", [lambda: torch.empty(2**50), lambda: np.empty(2**50)], ids=["torch", "numpy"])
def test_a_machine_out_of_memory_is_one_line_with_another_remedy(fault):
    with pytest.raises(SetupError) as raised:
        work(fault)
    assert re.fullmatch(
        r"out of memory \(.*allocate.*\): give the job more \(mem_mb\), .* on disk with training.memory: map",
        str(raised.value),
    )


@pytest.mark.parametrize("error", [RuntimeError("expected scalar type Float"), ValueError("out of memory")])
def test_other_errors_are_not_changed(error):
    def fault():
        raise error

    with pytest.raises(type(error), match=re.escape(str(error))):
        work(fault)
