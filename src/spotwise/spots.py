"""Patches and expression of a fold's spots on the training device, and their augmentation.

Patches are read once and stay in memory as uint8; flips, rotations, scaling and normalisation run on the device, a
batch at a time, so that training waits for no loader.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from spotwise.contracts import IMAGES
from spotwise.errors import InputError
from spotwise.folds import Fold
from spotwise.models.batch import Batch

logger = logging.getLogger(__name__)

# Mean and standard deviation of ImageNet's RGB in [0, 1], as the released code and timm's pretrained weights use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

READ_AT_ONCE = 256  # patches of 150 kB: about 40 MB a read


class Spots:
    """Spots of one fold, resident in memory; n spots.

    Parameters
    ----------
    fold
        The fold they are of.
    rows
        (n,) rows of ``fold``.
    patches
        ``patches.h5`` by sample.
    device
        Where batches are wanted.
    memory
        ``device`` or ``host`` for the patches; ``auto`` takes the device where they fit in half of what is free there.
    """

    def __init__(
        self,
        fold: Fold,
        rows: np.ndarray,
        patches: Mapping[str, Path],
        device: torch.device,
        memory: str = "auto",
    ):
        images = _read_patches(fold, rows, patches)
        self.device = device
        on_device = memory == "device" or (memory == "auto" and _fits(images, device))
        self.images = images.to(device) if on_device else images  # (n, H, W, 3) uint8
        self.expression = torch.from_numpy(fold.expression[rows]).to(device)  # (n, G)
        logger.info("%d patches (%.2f GB) on %s", len(images), images.nbytes / 1e9, images.device)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: torch.Tensor, generator: torch.Generator | None = None) -> Batch:
        """The spots at ``index`` (B,), normalised; augmented when a CPU ``generator`` is given.

        Returns
        -------
        Images (B, 3, H, W) float32 and expression (B, G) float32 on the device.
        """
        images = self.images[index.to(self.images.device)].to(self.device)
        if generator is not None:
            images = augment(images, generator)
        return Batch(normalise(images), self.expression[index.to(self.device)])


def _read_patches(fold: Fold, rows: np.ndarray, patches: Mapping[str, Path]) -> torch.Tensor:
    """(n, H, W, 3) uint8 patches of ``rows``, in their order; files are read front to back in large blocks."""
    images: np.ndarray | None = None
    for sample in dict.fromkeys(fold.sample[rows]):
        here = np.flatnonzero(fold.sample[rows] == sample)
        wanted = fold.patch[rows[here]]
        with h5py.File(patches[sample]) as file:
            stored = file[IMAGES]
            if images is None:
                images = np.empty((len(rows), *stored.shape[1:]), dtype=np.uint8)
            if stored.shape[1:] != images.shape[1:]:
                raise InputError(patches[sample], IMAGES, stored.shape[1:], f"{images.shape[1:]} as the other slides")
            for start in range(0, len(stored), READ_AT_ONCE):
                inside = (wanted >= start) & (wanted < start + READ_AT_ONCE)
                if inside.any():
                    images[here[inside]] = stored[start : start + READ_AT_ONCE][wanted[inside] - start]
    return torch.from_numpy(images)


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    return device.type != "cuda" or images.nbytes < torch.cuda.mem_get_info(device)[0] / 2


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn each image by one of the 8 symmetries of the square, all equally likely.

    The released flips and rotations by 0, 90, 180 and -90 degrees have the same distribution. ``images`` is
    (B, H, W, C) with H = W; the dice fall on the CPU, so that the same seed gives the same images on every device.
    """
    symmetry = torch.randint(8, (len(images),), generator=generator)
    turned = torch.empty_like(images)
    for which in range(8):
        here = (symmetry == which).nonzero()[:, 0].to(images.device)
        turned[here] = turn(images[here], which)
    return turned


def turn(images: torch.Tensor, symmetry: int) -> torch.Tensor:
    """(B, H, W, C) images under one of the 8 symmetries: bit 0 flips rows, bit 1 columns, bit 2 exchanges the two."""
    axes = [axis for axis, bit in ((1, 1), (2, 2)) if symmetry & bit]
    flipped = images.flip(axes) if axes else images
    return flipped.transpose(1, 2) if symmetry & 4 else flipped


def normalise(
    images: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 around ``mean`` and ``std`` of the RGB values in [0, 1]."""
    scaled = images.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    centre, spread = (torch.tensor(value, device=images.device)[:, None, None] for value in (mean, std))
    return scaled.sub_(centre).div_(spread)
