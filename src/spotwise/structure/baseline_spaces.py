"""Spaces without training, as baselines for trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from spotwise.constants import BASELINE_SPACES, EXPRESSION_SPACES, SPATIAL, TOTAL_COUNTS
from spotwise.data.features import spot_features
from spotwise.data.folds import SlideSpots, spots_with_patches
from spotwise.data.spot_array import array_positions
from spotwise.evaluation.spatial_metrics import adjacency
from spotwise.structure.spaces import Space

if TYPE_CHECKING:
    from anndata import AnnData

EXPRESSION, SMOOTHED, IMAGE, CONCATENATION = BASELINE_SPACES

# The usual number; all genes of a slide that measures fewer
VARIABLE_GENES = 2000
# More than the few domains of a section need, and few enough that noise does not dominate k-means
COMPONENTS = 15
# Surrounding spots: up to sqrt(2) pitches on a square array (3 x 3), 1 on a hexagonal one, whose next are at sqrt(3)
SURROUNDING_PITCHES = 1.57


def slide_spots(lognorm: AnnData, patches: str | Path | None) -> SlideSpots:
    """Select the spots of every space of a slide.

    These are the spots with a patch, or all in a cohort without images, where the row of the patch is -1.
    """
    if patches is not None:
        return spots_with_patches(lognorm, patches)
    return SlideSpots(
        genes=lognorm.var_names.to_numpy(dtype=object),
        expression=lognorm.X,
        barcode=lognorm.obs_names.to_numpy(dtype=object),
        patch=np.full(lognorm.n_obs, -1),
        spatial=lognorm.obsm[SPATIAL],
        array=array_positions(lognorm),
        total_counts=lognorm.obs[TOTAL_COUNTS].to_numpy(),
    )


def baseline_space(name: str, slide: SlideSpots, seed: int, features: str | Path | None = None) -> Space:
    """Compute one of `BASELINE_SPACES` for one slide.

    ``Expression`` is the PCA (`COMPONENTS`) of the log-normalised `VARIABLE_GENES` most variable genes,
    ``SmoothedExpression`` that of the same genes after `smooth`, ``Image`` the PCA of ``features``, a slide's file of
    frozen features. ``Concatenation`` holds ``Image`` beside ``Expression`` with the same total variance. The seed is
    recorded, and a baseline does not depend on it.
    """
    weights: dict[str, bool | str | None] = {}
    with threadpool_limits(1):  # the number of threads decides the last bits
        if name not in EXPRESSION_SPACES:
            with h5py.File(features) as file:
                weights = {key: bool(file.attrs.get(key, False)) for key in ("pretrained", "fell_back")}
                weights["encoder"] = file.attrs.get("encoder")
            image = components(spot_features(features, slide.barcode))
        if name != IMAGE:
            genes = most_variable_expression(slide)
            expression = components(smooth(genes, slide.spatial) if name == SMOOTHED else genes)
    if name == CONCATENATION:
        embedding = concatenate(image, expression)
    elif name == IMAGE:
        embedding = image
    else:
        embedding = expression
    return Space(embedding.astype(np.float32), slide.barcode, name, seed, **weights)


def most_variable_expression(slide: SlideSpots) -> np.ndarray:
    """Select the log-expression of the genes of highest variance, in the slide's order.

    Principal components depend on the variance itself. Normalised dispersion, as in scanpy, would select genes of a few
    spots on a shallow slide, and k-means would then separate these spots. The result (N, at most `VARIABLE_GENES`) is
    float64.
    """
    expression = sparse.csc_array(slide.expression).astype(np.float64)
    mean = expression.mean(axis=0)
    variance = expression.multiply(expression).mean(axis=0) - mean**2
    chosen = np.sort(np.argsort(-variance, kind="stable")[:VARIABLE_GENES])
    return expression[:, chosen].toarray()


def components(values: np.ndarray) -> np.ndarray:
    """Project ``values`` (N, F) on their principal components, at most `COMPONENTS`.

    Few spots or features give fewer components. Signs follow scikit-learn (the largest loading is positive).
    """
    from sklearn.decomposition import PCA  # slow to import, and not needed to select spots

    return PCA(min(COMPONENTS, len(values) - 1, values.shape[1]), svd_solver="full").fit_transform(values)


def smooth(values: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """Average ``values`` (N, F) over each spot and its surrounding spots, with equal weights."""
    around = adjacency(spatial, SURROUNDING_PITCHES) + sparse.eye_array(len(spatial))
    return (around @ values) / around.sum(axis=1)[:, None]


def concatenate(image: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Join two embeddings, each centred and scaled to total variance 1."""
    halves = [half - half.mean(axis=0) for half in (image, expression)]
    return np.hstack([half / np.sqrt((half**2).sum() / len(half)) for half in halves])
