"""Claims about devices: leased before CUDA is asked, and one line with a remedy when memory is full."""

import re

import numpy as np
import pytest
import torch

from spotwise.errors import SetupError
from spotwise.runtime import devices, gpu_locks


@pytest.fixture
def asked(monkeypatch):
    """What is asked of leases and torch, in order, on a machine with a GPU."""
    order = []
    monkeypatch.setattr(gpu_locks, "take_gpu", lambda: order.append("lease"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: order.append("torch") or True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "NVIDIA H200")
    return order


@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_a_gpu_is_leased_before_torch_is_asked_for_one(asked, wanted):
    assert devices.choose(wanted).type == "cuda"
    assert asked == ["lease", "torch"]


def test_the_cpu_needs_no_lease(asked):
    assert devices.choose("cpu").type == "cpu"
    assert asked == []


@pytest.mark.parametrize(("wanted", "found"), [("auto", "cpu"), ("cuda", None)])
def test_without_a_gpu_auto_takes_the_cpu_and_cuda_stops(monkeypatch, wanted, found):
    monkeypatch.setattr(gpu_locks, "take_gpu", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if found:
        assert devices.choose(wanted).type == found
    else:
        with pytest.raises(SetupError, match=r"^training.device is cuda and torch sees no GPU: "):
            devices.choose(wanted)


@devices.remedied("lower training.batch_size")
def work(fault):
    return fault()


def test_a_gpu_out_of_memory_is_one_line_with_the_remedy(asked):
    def fault():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but unallocated ...")

    with pytest.raises(SetupError) as told:
        work(fault)
    expected = "NVIDIA H200 is out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.): "
    assert str(told.value) == f"{expected}lower training.batch_size"


@pytest.mark.parametrize("fault", [lambda: torch.empty(2**50), lambda: np.empty(2**50)], ids=["torch", "numpy"])
def test_a_machine_out_of_memory_is_one_line_with_another_remedy(fault):
    with pytest.raises(SetupError) as told:
        work(fault)
    assert re.fullmatch(
        r"out of memory \(.*allocate.*\): give the job more \(mem_mb\), or .* training.memory: map", str(told.value)
    )


@pytest.mark.parametrize("error", [RuntimeError("expected scalar type Float"), ValueError("out of memory")])
def test_other_faults_stay_what_they_are(error):
    def fault():
        raise error

    with pytest.raises(type(error), match=re.escape(str(error))):
        work(fault)
