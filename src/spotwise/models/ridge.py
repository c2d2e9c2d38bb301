"""Ridge regression on the features of a frozen image encoder."""

from __future__ import annotations

import numpy as np

from spotwise.data.features import EmbeddedSpots
from spotwise.models.inner_folds import inner_groups
from spotwise.models.ridge_options import RidgeOptions

# The HEST benchmark's components, and its penalty for them and its 50 genes
HEST_COMPONENTS = 256
HEST_ITERATIONS = 1000


def hest_alpha(components: int, genes: int) -> float:
    """Return the penalty of the HEST benchmark."""
    return 100 / (components * genes)


HEST_ALPHA = hest_alpha(HEST_COMPONENTS, 50)


class Ridge:
    """Ridge regression on the principal components of standardised features.

    ``grouped``: with an intercept, and the penalty with the lowest error on training slides that were left out in turn,
    with scaler, components and regression fitted on the others. Principal components are orthogonal, so that one
    decomposition serves every penalty exactly.

    ``hest``: the protocol of the HEST benchmark (Jaume et al., NeurIPS 2024; mahmoodlab/HEST, ``bench/trainer.py``) on
    the targets of the other methods, with a fixed and far smaller penalty, LSQR stopped at scikit-learn's tolerance,
    and no intercept. As there, predictions lack the mean of the training expression, which affects a gene's squared
    error but not its correlation. The components are exact; the benchmark's may be approximated.
    """

    weight_names = ("weights", "bias")

    def __init__(self, options: RidgeOptions):
        self.options = options

    def n_parameters(self, features: int, genes: int) -> int:
        """Return the number of parameters, with scaler and components multiplied in."""
        return (features + 1) * genes

    def fit(self, spots: EmbeddedSpots, expression: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Fit on training spots.

        Parameters
        ----------
        spots
            N spots with features (N, D).
        expression
            (N, G) log-normalised.

        Returns
        -------
        weights, report
            ``weights`` (D, G) and ``bias`` (G,) for raw features, float32; and ``ridge_protocol``, the number of
            ``components``, ``alpha`` and, where it was chosen, the penalties with their inner mean squared errors.
        """
        features = spots.features.astype(np.float64)  # small penalties vanish in float32
        regression = _Regression(features, expression, self.options.components)
        if self.options.protocol == "hest":
            report = {"alpha": HEST_ALPHA}
            weights, bias = regression.on_features(
                hest_slopes(regression.scores, expression, HEST_ALPHA), intercept=0.0
            )
        else:
            report = self._choose(features, expression, inner_groups(spots.group, spots.spatial, self.options.n_blocks))
            weights, bias = regression.on_features(regression.slopes(report["alpha"]), intercept=regression.mean)
        report |= {"ridge_protocol": self.options.protocol, "components": regression.scores.shape[1]}
        return {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}, report

    def predict(self, weights: dict[str, np.ndarray], spots: EmbeddedSpots, expression: np.ndarray) -> np.ndarray:
        """Predict expression (n, G) float32 from features (n, D) alone."""
        return (spots.features @ weights["weights"] + weights["bias"]).astype(np.float32)

    def _choose(self, features: np.ndarray, expression: np.ndarray, groups: np.ndarray) -> dict[str, object]:
        """Choose the penalty with the lowest error on groups left out in turn."""
        from sklearn.model_selection import LeaveOneGroupOut

        alphas = np.geomspace(self.options.smallest_alpha, self.options.largest_alpha, self.options.n_alphas)
        errors = []
        for train, held in LeaveOneGroupOut().split(features, groups=groups):
            regression = _Regression(features[train], expression[train], self.options.components)
            scores, residual = regression.transform(features[held]), expression[held] - regression.mean
            errors.append([np.mean((residual - scores @ regression.slopes(alpha)) ** 2) for alpha in alphas])
        errors = np.mean(errors, axis=0)
        return {"alpha": float(alphas[errors.argmin()]), "alphas": alphas.tolist(), "inner_mse": errors.tolist()}


class _Regression:
    """Regression of expression (N, G) on the principal components of features (N, D), for any penalty.

    The scores (N, C) have mean 0 and are orthogonal, so that a penalty is added to a diagonal and the intercept is the
    mean.
    """

    def __init__(self, features: np.ndarray, expression: np.ndarray, components: int):
        from sklearn.decomposition import PCA  # slow to import, and not needed for predictions
        from sklearn.preprocessing import StandardScaler

        most = min(features.shape)
        self.scaler = StandardScaler()
        # exact; scikit-learn's default approximates the components of a large matrix
        self.pca = PCA(min(components, most) or most, svd_solver="covariance_eigh")
        self.scores = self.pca.fit_transform(self.scaler.fit_transform(features))
        self.mean = expression.mean(axis=0, dtype=np.float64)
        self.moments = self.scores.T @ expression  # (C, G)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Project features (n, D) to scores (n, C)."""
        return self.pca.transform(self.scaler.transform(features))

    def slopes(self, alpha: float) -> np.ndarray:
        """Return the coefficients (C, G) of the scores for a penalty."""
        return self.moments / (self.pca.singular_values_[:, None] ** 2 + alpha)

    def on_features(self, slopes: np.ndarray, intercept: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Convert ``slopes`` of the scores to weights (D, G) and bias (G,) of raw features."""
        weights = (self.pca.components_.T @ slopes) / self.scaler.scale_[:, None]
        return weights, intercept - self.pca.mean_ @ self.pca.components_.T @ slopes - self.scaler.mean_ @ weights


def hest_slopes(scores: np.ndarray, expression: np.ndarray, alpha: float) -> np.ndarray:
    """Return the coefficients (C, G) of scores (N, C) for expression (N, G), as the HEST benchmark fits them."""
    from sklearn.linear_model import Ridge as LinearRidge

    regression = LinearRidge(alpha, solver="lsqr", fit_intercept=False, max_iter=HEST_ITERATIONS)
    return regression.fit(scores, expression).coef_.T
