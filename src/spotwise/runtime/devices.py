"""Which device a job computes on, and what to do when its memory is full.

A run that asks for a GPU and gets none stops.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spotwise.errors import SetupError
from spotwise.runtime import gpu_locks

logger = logging.getLogger(__name__)

HOST_ALLOCATION = "DefaultCPUAllocator"  # in torch's RuntimeError when the machine's own memory is full
# What to do where a job's own share is small and fixed
OTHERS = "see by nvidia-smi what else holds it, and run this once that is done"


def choose(wanted: str) -> torch.device:
    """The device for ``training.device``, named in the log; a GPU is leased for the rest of the process.

    Parameters
    ----------
    wanted
        ``cuda``, ``cpu``, or ``auto``: the GPU where there is one.

    Raises
    ------
    SetupError
        When ``cuda`` is wanted and there is none.
    """
    if wanted != "cpu":
        gpu_locks.take_gpu()
    if wanted != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda")
        logger.info("device: %s (%s)", device, torch.cuda.get_device_name(device))
        return device
    if wanted == "cuda":
        raise SetupError(
            "training.device is cuda and torch sees no GPU: run where nvidia-smi shows one, "
            "or set training.device to cpu or auto"
        )
    logger.log(logging.WARNING if wanted == "auto" else logging.INFO, "device: cpu (%s)", wanted)
    return torch.device("cpu")


def name(device: torch.device) -> str:
    """``cpu``, or the GPU's model: bits are the same on the same one."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def make_deterministic(threads: int) -> None:
    """Same seed, same bits: deterministic kernels, and ``threads`` CPU threads whatever the machine offers."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for, before its first call
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every value is written before it is read
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Turn a lack of memory in the body into one line; ``remedy`` says what to do where it is a GPU's.

    Raises
    ------
    SetupError
        In place of torch's and numpy's errors.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(f"{torch.cuda.get_device_name()} is out of memory ({_first_line(error)}): {remedy}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SetupError(
            f"out of memory ({_first_line(error)}): give the job more (mem_mb), or keep patches out of it by "
            "training.memory: map"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is a lack of memory, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or HOST_ALLOCATION in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no room for an array").splitlines()[0]
