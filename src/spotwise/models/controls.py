"""Predictors that see no image. What a method does not gain over them, it has not learnt from the slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spotwise.contracts import TEST
from spotwise.folds import Fold


@dataclass(frozen=True)
class TrainMean:
    """Every spot is the mean of the training spots. Constant by construction, so that its PCC is 0."""

    def predict(self, fold: Fold, sample: str, seed: int) -> np.ndarray:
        """Predicted expression (N, G) float32 of ``sample``."""
        mean = fold.expression[fold.bank].mean(axis=0, dtype=np.float64).astype(np.float32)
        return np.tile(mean, (len(fold.rows(TEST, sample=sample)), 1))


@dataclass(frozen=True)
class RandomRetrieval:
    """Every spot is the mean of ``k`` random training spots: retrieval without looking."""

    k: int = 50

    def predict(self, fold: Fold, sample: str, seed: int) -> np.ndarray:
        """Predicted expression (N, G) float32 of ``sample``."""
        bank = fold.expression[fold.bank]
        rng = np.random.default_rng(seed)
        return np.stack(
            [
                bank[rng.choice(len(bank), min(self.k, len(bank)), replace=False)].mean(axis=0)
                for _ in fold.rows(TEST, sample=sample)
            ]
        )


@dataclass(frozen=True)
class LibrarySize:
    """Every gene is a straight line in the spot's log total counts, fitted within the training slides.

    It is told the measured depth of the test spots, which no image method knows; it shows how much of a PCC may be
    mere sequencing depth. Depth is centred per slide, as slides differ in it by an order of magnitude.
    """

    def predict(self, fold: Fold, sample: str, seed: int) -> np.ndarray:
        """Predicted expression (N, G) float32 of ``sample``."""
        bank = fold.bank
        depth = np.log1p(fold.total_counts.astype(np.float64))
        for slide in set(fold.sample):
            rows = np.flatnonzero(fold.sample == slide)
            above_first = depth[rows] - depth[rows[0]]  # exactly 0 where all are equal, which a mean is not
            depth[rows] = above_first - above_first.mean()
        expression = fold.expression[bank].astype(np.float64)
        mean = expression.mean(axis=0)
        x = depth[bank]
        slope = x @ (expression - mean) / max(x @ x, np.finfo(float).tiny)
        return (mean + np.outer(depth[fold.rows(TEST, sample=sample)], slope)).astype(np.float32)
