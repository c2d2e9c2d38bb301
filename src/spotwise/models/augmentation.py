"""Augmentations of training images beside flips and right-angle rotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Side of the images in which a warp's lengths are given, and the share of images that it moves
WARPED_PX = 256
WARPED_FRACTION = 0.8


class Warp(NamedTuple):
    """Parameters of :func:`warped` for B images, on the CPU.

    Lengths are in pixels of an image of ``WARPED_PX``. ``scale``, ``aspect`` and ``angle`` in radians are (B,),
    ``shift`` and ``tilt`` along x and y (B, 2), ``flip`` along y and x (B, 2) bool, ``gain`` and ``offset`` of the
    normalised colours (B, 3).
    """

    scale: Tensor
    aspect: Tensor
    angle: Tensor
    shift: Tensor
    tilt: Tensor
    flip: Tensor
    gain: Tensor
    offset: Tensor


def warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """Warp normalised images (B, 3, H, W) as MicNet's released code does.

    Four of five get a slight projection. Then follow flips, a shift of all colours, and gain and shift of each channel.
    Random numbers are drawn on the CPU.
    """
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    moved = torch.rand(n, generator=generator) < WARPED_FRACTION
    gain = (1 + 0.2 * normal(3)).clamp(0.8, 1.2)
    return warped(
        images,
        Warp(
            scale=torch.where(moved, uniform(0.9, 1.1), 1.0),
            aspect=torch.where(moved, uniform(0.9, 1.1), 1.0),
            angle=moved * uniform(-0.1, 0.1),
            shift=moved[:, None] * uniform(-10, 10, 2),
            tilt=moved[:, None] * uniform(-0.001, 0.001, 2),
            flip=torch.rand(n, 2, generator=generator) < 0.5,
            gain=gain,
            offset=gain * 0.1 * normal(1) + 0.3 * normal(3),
        ),
    )


def warped(images: Tensor, by: Warp) -> Tensor:
    """Apply a projection, flips and changes of colour to images (B, 3, H, W).

    The projection maps output pixels to input pixels, with its origin at the image's first pixel. Pixels from outside
    the image are 0, the mean colour.
    """
    height, width = images.shape[2:]
    unit = height / WARPED_PX
    cos, sin = by.angle.cos() * by.scale, by.angle.sin()
    rows = (
        (cos * by.aspect, -sin, by.shift[:, 0] * unit),
        (sin, cos / by.aspect, by.shift[:, 1] * unit),
        (by.tilt[:, 0] / unit, by.tilt[:, 1] / unit, torch.ones(len(images))),
    )
    projection = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (B, 3, 3)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).float()  # (H, W, 3)
    source = torch.einsum("bij,hwj->bhwi", projection, pixels)
    source = source[..., :2] / source[..., 2:]
    grid = (2 * source + 1) / torch.tensor([width, height]) - 1  # pixel centres, -1 and 1 at the image's edges
    images = functional.grid_sample(images, grid.to(images.device), align_corners=False)
    for axis in (0, 1):
        here = by.flip[:, axis].to(images.device)[:, None, None, None]
        images = torch.where(here, images.flip(2 + axis), images)
    gain, offset = (value[:, :, None, None].to(images.device) for value in (by.gain, by.offset))
    return images * gain + offset


# By name: functions of normalised images (B, 3, H, W) and a CPU generator
AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"warp": warp}
