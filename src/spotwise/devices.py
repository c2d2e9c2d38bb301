"""Which device a job computes on. A run that asks for a GPU and gets none stops."""

from __future__ import annotations

import logging
import os

import torch

from spotwise.errors import SetupError

logger = logging.getLogger(__name__)


def choose(wanted: str) -> torch.device:
    """The device for ``training.device``, named in the log.

    Parameters
    ----------
    wanted
        ``cuda``, ``cpu``, or ``auto``: the GPU where there is one.

    Raises
    ------
    SetupError
        When ``cuda`` is wanted and there is none.
    """
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
