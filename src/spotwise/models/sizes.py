"""Sizes of a network that the data determine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotwise.constants import TRAIN
from spotwise.data.features import feature_width
from spotwise.data.folds import Fold


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network that a fold determines.

    Attributes
    ----------
    genes, training
        Genes of the panel, and training spots.
    positions
        Rows or columns of the largest array among the fold's slides, whichever is larger.
    features
        Width of the frozen features, 0 for a method that uses none.
    """

    genes: int
    positions: int = 0
    features: int = 0
    training: int = 0

    @classmethod
    def of(cls, fold: Fold, embeddings: Mapping[str, Path] | None = None) -> Sizes:
        """Return the sizes of ``fold``, and of embedded patches by sample where the method uses any."""
        return cls(
            genes=len(fold.genes),
            positions=int(fold.array.max()) + 1,
            features=feature_width(next(iter(embeddings.values()))) if embeddings else 0,
            training=len(fold.rows(TRAIN)),
        )
