"""Retrieval in the features of a frozen image encoder, without any learning."""

from __future__ import annotations

import numpy as np

from spotwise.data.features import EmbeddedSpots
from spotwise.models.knn_options import KNNImageOptions
from spotwise.models.similarity_search import average, nearest, unit_rows


class KNNImage:
    """Mean expression of the ``k`` training spots whose standardised features have the highest cosine similarity.

    The retrieval of BLEEP and CMRCNet, with image features on both sides: their gain over it is what they learn from
    expression.
    """

    weight_names = ("bank", "mean", "scale")

    def __init__(self, options: KNNImageOptions):
        self.options = options

    def n_parameters(self, features: int, genes: int) -> int:
        return 0  # nothing is learnt

    def fit(self, spots: EmbeddedSpots, expression: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Keep the standardised features (N, D) of the training spots, as :meth:`spotwise.models.ridge.Ridge.fit` fits.

        The weights are ``bank`` (N, D) unit rows, ``mean`` and ``scale`` (D,), float32.
        """
        from sklearn.preprocessing import StandardScaler  # slow to import, and not needed for predictions

        scaler = StandardScaler().fit(spots.features.astype(np.float64))
        weights = {"mean": scaler.mean_.astype(np.float32), "scale": scaler.scale_.astype(np.float32)}
        weights["bank"] = _standard_unit_rows(weights, spots.features)
        return weights, {"k": self.options.k, "k_used": self._k_used(weights)}

    def predict(self, weights: dict[str, np.ndarray], spots: EmbeddedSpots, expression: np.ndarray) -> np.ndarray:
        """Predict expression (n, G) float32 from features (n, D) and training expression (N, G)."""
        matches = nearest(_standard_unit_rows(weights, spots.features), weights["bank"], self._k_used(weights))
        return average(expression, matches)

    def _k_used(self, weights: dict[str, np.ndarray]) -> int:
        return min(self.options.k, len(weights["bank"]))


def _standard_unit_rows(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    return unit_rows((features.astype(np.float32) - weights["mean"]) / weights["scale"])
