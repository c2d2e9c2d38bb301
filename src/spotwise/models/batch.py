"""Batches of spots, and the context of the spots that a method can request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # options need a context where torch is not imported
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What a method requests of its spots from :class:`spotwise.training.dataset.Spots`.

    Attributes
    ----------
    image_px
        Side of the images in pixels; ``None`` for the size of the patches (224).
    neighbours
        Nearest spots of the same slide to add to each spot, itself included and first, whether they train or validate;
        0 for none. Only in training and validation, as predictions must not see a measured neighbour.
    exemplars
        Training spots of other slides (under ``patient``, of other patients) to add to each spot, those with the most
        similar frozen features; 0 for none. With a single training slide, they are of that slide.
    window
        Size of the windows of contiguous spots of one slide that form the batches; 0 for batches of any spots.
    augment
        Name of the augmentation of training images, in :data:`spotwise.models.augmentation.AUGMENTATIONS`; ``None``
        for flips and right-angle rotations.
    """

    image_px: int | None = None
    neighbours: int = 0
    exemplars: int = 0
    window: int = 0
    augment: str | None = None


class Neighbours(NamedTuple):
    """The n nearest spots of each of B spots, itself first, unaugmented.

    ``images`` float32 (B, n, 3, H, W), ``expression`` float32 (B, n, G). In training, a validation spot has the
    expression of the training spot nearest to it.
    """

    images: Tensor
    expression: Tensor


class Exemplars(NamedTuple):
    """Frozen features of B spots and of their K most similar training spots, nearest first.

    ``query`` float32 (B, F), ``keys`` float32 (B, K, F), ``expression`` float32 (B, K, G).
    """

    query: Tensor
    keys: Tensor
    expression: Tensor


class Batch(NamedTuple):
    """Images and expression of B spots, with what the method's :class:`Context` requests.

    Attributes
    ----------
    images
        float32 (B, 3, H, W), normalised with the mean and standard deviation of ImageNet.
    expression
        float32 (B, G), log-normalised expression of the gene panel; ``None`` when it is to be predicted.
    position
        int64 (B, 2), row and column of each spot on its slide's array.
    index
        int64 (B,), position of each spot within its :class:`spotwise.training.dataset.Spots`: in training, among the
        training spots.
    """

    images: Tensor
    expression: Tensor | None
    position: Tensor | None = None
    neighbours: Neighbours | None = None
    exemplars: Exemplars | None = None
    index: Tensor | None = None
