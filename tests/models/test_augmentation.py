"""Augmentations of training images against their definitions."""

import math

import numpy as np
import torch

from spotwise.models.augmentation import Warp, warp, warped


def neutral(n):
    one, two, three = torch.ones(n), torch.zeros(n, 2), torch.zeros(n, 3)
    return Warp(one, one, 0 * one, two, two, two.bool(), three + 1, three)


def test_a_neutral_warp_changes_nothing():
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warped(images, neutral(3)), images, atol=1e-5, rtol=0)


def test_a_warp_equals_bilinear_interpolation_pixel_by_pixel():
    px, scale, aspect, angle, shift, tilt = 16, 1.07, 0.93, 0.08, (8.0, -3.0), (0.0008, -0.0005)
    images = torch.randn(1, 3, px, px, generator=torch.Generator().manual_seed(0))
    by = neutral(1)._replace(
        scale=torch.tensor([scale]),
        aspect=torch.tensor([aspect]),
        angle=torch.tensor([angle]),
        shift=torch.tensor([shift]),
        tilt=torch.tensor([tilt]),
        flip=torch.tensor([[True, False]]),
        gain=torch.tensor([[1.1, 0.9, 1.0]]),
        offset=torch.tensor([[0.1, 0.2, -0.3]]),
    )
    image, unit = images[0].numpy(), px / 256

    def at(channel, y, x):
        return image[channel, y, x] if 0 <= y < px and 0 <= x < px else 0.0

    expected = np.zeros((3, px, px))
    for y in range(px):
        for x in range(px):
            depth = tilt[0] / unit * x + tilt[1] / unit * y + 1
            from_x = (math.cos(angle) * scale * aspect * x - math.sin(angle) * y + shift[0] * unit) / depth
            from_y = (math.sin(angle) * x + math.cos(angle) * scale / aspect * y + shift[1] * unit) / depth
            x0, y0 = math.floor(from_x), math.floor(from_y)
            for channel in range(3):
                expected[channel, px - 1 - y, x] = sum(  # flipped along y
                    (1 - abs(from_y - yy)) * (1 - abs(from_x - xx)) * at(channel, yy, xx)
                    for yy in (y0, y0 + 1)
                    for xx in (x0, x0 + 1)
                )
    expected = expected * np.array([1.1, 0.9, 1.0])[:, None, None] + np.array([0.1, 0.2, -0.3])[:, None, None]
    np.testing.assert_allclose(warped(images, by)[0].numpy(), expected, atol=2e-5)


def test_a_warp_draws_from_its_generator_anew_for_each_image():
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(6, -1, -1, -1)
    found = [warp(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    for first in range(6):
        for second in range(first):
            assert not torch.allclose(found[0][first], found[0][second])
