"""Choice of the compute device, determinism, and errors of full memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spotwise.errors import SetupError, first_line
from spotwise.runtime import gpu_locks

logger = logging.getLogger(__name__)

HOST_ALLOCATION = "DefaultCPUAllocator"  # in torch's RuntimeError when the machine's own memory is full
# Remedy for jobs whose own use of GPU memory is small and fixed
FREE_GPU_MEMORY = "see with nvidia-smi which processes use it, and run again once they have ended"


def choose(setting: str) -> torch.device:
    """Return the device for ``training.device`` (``cuda``, ``cpu`` or ``auto``) and log it.

    A GPU is locked for the rest of the process.

    Raises
    ------
    SetupError
        ``cuda`` was requested and there is no GPU.
    """
    if setting != "cpu":
        gpu_locks.allocate()
    if setting != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda")
        logger.info("device: %s (%s)", device, torch.cuda.get_device_name(device))
        return device
    if setting == "cuda":
        raise SetupError(
            "training.device is cuda and torch sees no GPU: run where nvidia-smi shows one, "
            "or set training.device to cpu or auto"
        )
    logger.log(logging.WARNING if setting == "auto" else logging.INFO, "device: cpu (%s)", setting)
    return torch.device("cpu")


def name(device: torch.device) -> str:
    """Return ``cpu`` or the model of the GPU, on which results depend in the last bits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def make_deterministic(threads: int) -> None:
    """Select deterministic kernels and a fixed number of CPU threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS before its first call
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every value is written before it is read
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)


@contextmanager
def explain_out_of_memory(gpu_remedy: str) -> Iterator[None]:
    """Raise a `SetupError` of one line for out-of-memory errors of torch and numpy in the body.

    ``gpu_remedy`` says what to do when a GPU's memory is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        gpu = torch.cuda.get_device_name()
        raise SetupError(f"{gpu} is out of memory ({first_line(error)}): {gpu_remedy}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SetupError(
            f"out of memory ({first_line(error)}): give the job more (mem_mb), or keep patches on disk with "
            "training.memory: map"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the memory of a GPU or of the machine was full."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or HOST_ALLOCATION in str(error)
