"""Resizing, normalisation and symmetries of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

# Mean and standard deviation of ImageNet's RGB in [0, 1], as the released code and timm's pretrained weights use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SYMMETRIES = 8  # of the square


def fixed_input(px: int, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> dict:
    """Describe the only images that an encoder takes, as timm's ``pretrained_cfg`` does."""
    return {"mean": mean, "std": std, "input_size": (3, px, px), "fixed_input_size": True}


def resize(images: np.ndarray, px: int) -> np.ndarray:
    """Resize (n, H, W, C) uint8 images to ``px`` x ``px``, bilinear with antialiasing."""
    if images.shape[1:3] == (px, px):
        return images
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small = functional.interpolate(channels_first, (px, px), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def normalise(
    images: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """Standardise (B, H, W, 3) uint8 by ``mean`` and ``std`` of RGB in [0, 1] to (B, 3, H, W) float32."""
    scaled = images.to(torch.float32).div_(255).flatten(2)
    # along whole rows of pixels, as a CPU is several times slower in runs of three
    centre, spread = (torch.tensor(value, device=images.device).repeat(images.shape[2]) for value in (mean, std))
    return scaled.sub_(centre).div_(spread).view(images.shape).permute(0, 3, 1, 2)


def turn(images: torch.Tensor, symmetry: int) -> torch.Tensor:
    """Apply one of the 8 symmetries to (B, H, W, C) images.

    Bit 0 of ``symmetry`` flips rows, bit 1 flips columns, bit 2 transposes.
    """
    axes = [axis for axis, bit in ((1, 1), (2, 2)) if symmetry & bit]
    flipped = images.flip(axes) if axes else images
    return flipped.transpose(1, 2) if symmetry & 4 else flipped


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Apply a random symmetry of the square to each of (B, H, W, C) images with H = W.

    All 8 are equally likely, which is the distribution of the released flips and rotations by 0, 90, 180 and -90
    degrees. Random numbers are drawn on the CPU, so that a seed gives the same images on every device.
    """
    symmetry = torch.randint(SYMMETRIES, (len(images),), generator=generator)
    turned = torch.empty_like(images)
    if images.device.type == "cpu":  # one by one, without the copies that grouping would make
        for image, into, which in zip(images, turned, symmetry.tolist(), strict=True):
            into.copy_(turn(image[None], which)[0])
        return turned
    for which in range(SYMMETRIES):
        here = (symmetry == which).nonzero()[:, 0].to(images.device)
        turned[here] = turn(images[here], which)
    return turned
