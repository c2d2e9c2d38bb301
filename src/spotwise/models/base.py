"""What every trained method has in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spotwise.constants import TRAIN
from spotwise.data.features import feature_width
from spotwise.data.folds import Fold
from spotwise.models.batch import Batch, Context


@dataclass(frozen=True)
class Sizes:
    """What a fold fixes of a network's shape.

    Attributes
    ----------
    genes
        Genes of the panel, G.
    positions
        Rows or columns of the largest array among the fold's slides, whichever are more.
    features
        Width of the frozen features, 0 for a method that uses none.
    training
        Training spots.
    """

    genes: int
    positions: int = 0
    features: int = 0
    training: int = 0

    @classmethod
    def of(cls, fold: Fold, embeddings: Mapping[str, Path] | None = None) -> Sizes:
        """Those of ``fold``; ``embeddings`` are embedded patches by sample, where the method uses any."""
        return cls(
            genes=len(fold.genes),
            positions=int(fold.array.max()) + 1,
            features=feature_width(next(iter(embeddings.values()))) if embeddings else 0,
            training=len(fold.rows(TRAIN)),
        )


@dataclass(frozen=True)
class Options:
    """Base of the trained methods' hyper-parameters."""

    @property
    def context(self) -> Context:
        """What the method asks of its spots."""
        return Context()


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
