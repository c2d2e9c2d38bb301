"""What every trained method has in common."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spotwise.models.batch import Batch
from spotwise.models.options import Options
from spotwise.models.sizes import Sizes


class Method(nn.Module):
    """Base of the trained methods.

    A subclass adds ``loss`` and the verbs of its kind: *retrieval* and *clustering* methods ``embed_images`` and
    ``embed_expression``, *regression* methods ``predict``.

    Attributes
    ----------
    pretrained_loaded : bool or None
        Whether the image encoder started from published weights; ``None`` where there are none to start from.
    """

    pretrained_loaded: bool | None = None

    @property
    def encoder_name(self) -> str | None:
        """Name of the image encoder; ``None`` for one without a name."""
        return getattr(self.options, "encoder", None)

    @classmethod
    def of(cls, sizes: Sizes, options: Options) -> Method:
        """A freshly initialised network for a fold. Override it where more than the number of genes matters."""
        return cls(sizes.genes, options)

    def begin(self, expression: Tensor) -> None:
        """Look once at the training spots' expression (N, G), before the first step of a fresh training."""

    def training_only(self) -> list[nn.Module]:
        """Modules that predictions do not need."""
        return []

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Scalars by name: ``total``, differentiable, and detached ones to watch.

        ``mask_generator``, on the batch's device, fixes what is random in validation.
        """
        raise NotImplementedError

    def validate(self, batches: Iterable[Batch], n_spots: int, mask_generator: torch.Generator) -> dict[str, float]:
        """Numbers by name that tell how good the epoch was, over all validation spots; the lowest ``total`` is kept.

        Here the mean of each loss term. A method whose loss says little of spots that it was not trained on overrides
        it with a criterion of its own.

        Parameters
        ----------
        batches
            Every validation spot once, unaugmented, always the same batches.
        n_spots
            Spots in all of them.
        mask_generator
            As in :meth:`loss`.
        """
        means: dict[str, float] = {}
        for batch in batches:
            for name, value in self.loss(batch, mask_generator).items():
                means[name] = means.get(name, 0.0) + value.item() * len(batch.images) / n_spots
        return means

    def predict(self, batch: Batch) -> Tensor:
        """Expression (B, G) of spots whose ``batch.expression`` is ``None``."""
        raise NotImplementedError
