"""Ridge regression on the features of a frozen image encoder: the baseline to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2

from spotwise.errors import InputError


@dataclass(frozen=True)
class RidgeOptions:
    """Hyper-parameters of :class:`Ridge`.

    Attributes
    ----------
    smallest_alpha, largest_alpha, n_alphas
        Penalties tried, evenly spaced on a log scale; standardised features.
    n_blocks
        Spatial blocks of the only training slide, where penalties cannot be judged across slides.
    """

    smallest_alpha: float = 1.0
    largest_alpha: float = 1e6
    n_alphas: int = 13
    n_blocks: int = 4

    def __post_init__(self):
        for name, value, least in (("n_alphas", self.n_alphas, 1), ("n_blocks", self.n_blocks, 2)):
            if value < least:
                raise InputError("Ridge", name, value, f"at least {least}")
        if not 0 < self.smallest_alpha <= self.largest_alpha:
            found = f"{self.smallest_alpha} to {self.largest_alpha}"
            raise InputError("Ridge", "smallest_alpha, largest_alpha", found, "positive penalties in ascending order")


class Ridge:
    """Standardised features, ridge regression, the penalty chosen by leaving training slides out in turn.

    The HEST benchmark fixes a far smaller penalty than such a search finds and fits no intercept; this is the honest
    form of it: everything is fitted inside the training slides.
    """

    def __init__(self, options: RidgeOptions):
        self.options = options

    def fit(
        self, features: np.ndarray, expression: np.ndarray, sample: np.ndarray, spatial: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Fit on training spots.

        Parameters
        ----------
        features
            (N, D).
        expression
            (N, G) log-normalised.
        sample
            (N,) slide of each spot: the groups of the inner folds.
        spatial
            (N, 2) spot centres, for blocks where there is only one slide.

        Returns
        -------
        weights, report
            ``weights`` (D, G) and ``bias`` (G,) for raw features, float32; and the penalties tried with their inner
            mean squared errors.
        """
        from sklearn.linear_model import Ridge as Regression
        from sklearn.model_selection import GroupKFold, cross_val_score
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler()
        standard = scaler.fit_transform(features.astype(np.float64))  # float32 loses the small penalties
        groups = self._groups(sample, spatial)
        inner = GroupKFold(len(set(groups)))
        alphas = np.geomspace(self.options.smallest_alpha, self.options.largest_alpha, self.options.n_alphas)
        errors = [
            -cross_val_score(
                Regression(alpha), standard, expression, groups=groups, cv=inner, scoring="neg_mean_squared_error"
            ).mean()
            for alpha in alphas
        ]
        alpha = float(alphas[int(np.argmin(errors))])
        model = Regression(alpha).fit(standard, expression)
        weights = model.coef_.T / scaler.scale_[:, None]
        bias = model.intercept_ - scaler.mean_ @ weights
        report = {"alpha": alpha, "alphas": alphas.tolist(), "inner_mse": [float(error) for error in errors]}
        return {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}, report

    def _groups(self, sample: np.ndarray, spatial: np.ndarray) -> np.ndarray:
        if len(set(sample)) > 1:
            return sample
        return kmeans2(spatial, self.options.n_blocks, minit="++", rng=0)[1]

    @staticmethod
    def predict(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
        """Predicted expression (N, G) float32 from features (N, D) and what :meth:`fit` returned."""
        return (features @ weights["weights"] + weights["bias"]).astype(np.float32)
