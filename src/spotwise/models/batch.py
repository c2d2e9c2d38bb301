"""What a retrieval method is trained on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """B spots: the image of each, and its expression.

    Attributes
    ----------
    images
        float32 (B, 3, H, W), normalised with the mean and standard deviation of ImageNet.
    expression
        float32 (B, G), log-normalised expression of the gene panel.
    """

    images: Tensor
    expression: Tensor
