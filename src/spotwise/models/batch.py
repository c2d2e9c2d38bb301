"""What a trained method is shown: a batch of spots, and what a method may ask for beside their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # options need a context where torch is not imported
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What a method needs of its spots; :class:`spotwise.training.dataset.Spots` provides it.

    Attributes
    ----------
    image_px
        Side of the images in pixels; ``None`` takes the patches as they are (224).
    neighbours
        Nearest spots of the same slide to show with each spot, itself included and first; 0 for none. They are shown in
        training and validation only: predictions never see a measured neighbour.
    exemplars
        Training spots of other slides (under ``patient``, of other patients) to show with each spot, those with the
        most similar frozen features; 0 for none. Where training has one slide only, they are of that one.
    window
        0: a batch is any spots. Otherwise a batch is a window of at most so many contiguous spots of one slide.
    augment
        What training images undergo, by its name in :data:`spotwise.models.augmentation.AUGMENTATIONS`; ``None`` for
        flips and right-angle rotations.
    """

    image_px: int | None = None
    neighbours: int = 0
    exemplars: int = 0
    window: int = 0
    augment: str | None = None


class Neighbours(NamedTuple):
    """The n nearest spots of each of B spots, itself first, unaugmented.

    ``images`` float32 (B, n, 3, H, W), ``expression`` float32 (B, n, G).
    """

    images: Tensor
    expression: Tensor


class Exemplars(NamedTuple):
    """Frozen features of B spots, and the K training spots most similar in them, nearest first.

    ``query`` float32 (B, F), ``keys`` float32 (B, K, F), ``expression`` float32 (B, K, G).
    """

    query: Tensor
    keys: Tensor
    expression: Tensor


class Batch(NamedTuple):
    """B spots: the image of each, its expression, and what the method's :class:`Context` asks for.

    Attributes
    ----------
    images
        float32 (B, 3, H, W), normalised with the mean and standard deviation of ImageNet.
    expression
        float32 (B, G), log-normalised expression of the gene panel; ``None`` when it is to be predicted.
    position
        int64 (B, 2), row and column of each spot on its slide's array.
    neighbours, exemplars
        Where asked for.
    index
        int64 (B,), place of each spot among those that its :class:`spotwise.training.dataset.Spots` holds: in training, among the
        training spots.
    """

    images: Tensor
    expression: Tensor | None
    position: Tensor | None = None
    neighbours: Neighbours | None = None
    exemplars: Exemplars | None = None
    index: Tensor | None = None
