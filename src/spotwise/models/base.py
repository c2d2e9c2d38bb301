"""Base classes of the trained methods."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spotwise.models.batch import Batch
from spotwise.models.options import Options
from spotwise.models.sizes import Sizes


class Method(nn.Module):
    """Base of the trained methods.

    A subclass implements ``loss`` and the methods of its kind: *retrieval* and *clustering* methods ``embed_images``
    and ``embed_expression``, *regression* methods ``predict``. Its creation raises
    :class:`spotwise.errors.SetupError` where pretrained weights are required and not available.

    Attributes
    ----------
    options : Options
        The method's options.
    pretrained_loaded : bool or None
        Whether the image encoder started from published weights; ``None`` where none were published.
    """

    pretrained_loaded: bool | None = None

    def __init__(self, options: Options):
        super().__init__()
        self.options = options

    @property
    def encoder_name(self) -> str | None:
        """Name of the image encoder, ``None`` for one without a name."""
        return getattr(self.options, "encoder", None)

    @classmethod
    def of(cls, sizes: Sizes, options: Options) -> Method:
        """Create a freshly initialised network.

        Override it where the network depends on more than the number of genes.
        """
        return cls(sizes.genes, options)

    def begin(self, expression: Tensor) -> None:
        """Prepare for a new training, given the expression (N, G) of the training spots."""

    def training_only(self) -> list[nn.Module]:
        """Return the modules that predictions do not need."""
        return []

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            For methods that mask their input. ``None`` in training; in validation a generator on the batch's device
            with a fixed seed, so that epochs are compared on the same masks.

        Returns
        -------
        dict
            Scalars by name: ``total``, differentiable, and detached ones to monitor.
        """
        raise NotImplementedError

    def validate(self, batches: Iterable[Batch], n_spots: int, mask_generator: torch.Generator) -> dict[str, float]:
        """Compute the criteria of an epoch over all validation spots.

        By default the mean of each loss term. A method whose loss says little about spots that it was not trained on
        overrides it with a criterion of its own.

        Parameters
        ----------
        batches
            Every validation spot once, unaugmented, in the same batches of one slide each epoch.
        n_spots
            Number of validation spots.
        mask_generator
            As in :meth:`loss`.

        Returns
        -------
        dict
            Numbers by name. The epoch with the lowest ``total`` is kept.
        """
        means: dict[str, float] = {}
        for batch in batches:
            for name, value in self.loss(batch, mask_generator).items():
                means[name] = means.get(name, 0.0) + value.item() * len(batch.images) / n_spots
        return means

    def embed_images(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W) as (B, D), not normalised."""
        raise NotImplementedError

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Embed expression (B, G) as (B, D), not normalised."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Tensor:
        """Predict the expression (B, G) of spots whose ``batch.expression`` is ``None``."""
        raise NotImplementedError


class LinearReadout(Method):
    """Base of the methods that fine-tune an ``image_encoder`` under a linear ``head``."""

    @torch.no_grad()
    def begin(self, expression: Tensor) -> None:
        """Set the bias to the mean of the training expression (N, G)."""
        self.head.bias.copy_(expression.mean(dim=0))

    def predict(self, batch: Batch) -> Tensor:
        """Predict the expression (B, G) from the images."""
        return self.head(self.image_encoder(batch.images))
