"""Baselines: spaces that one would try before training anything.

Principal components of a slide's expression, with or without smoothing over the slide, of frozen image features, and of
both side by side.
"""

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

# The usual number; all genes where the slide measures fewer
VARIABLE_GENES = 2000
# More than the handful of domains of a section needs, few enough that k-means is not ruled by directions of mere noise
COMPONENTS = 15
# The spots around a spot: up to sqrt(2) pitches on a square array (3 x 3), 1 on a hexagonal one, whose next are sqrt(3)
SURROUNDING_PITCHES = 1.57


def slide_spots(lognorm: AnnData, patches: str | Path | None) -> SlideSpots:
    """The spots that every space of a slide holds: those with a patch, or all where the cohort has no images.

    Without images the spots have no row of a patch: -1.
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


def baseline(name: str, slide: SlideSpots, seed: int, features: str | Path | None = None) -> Space:
    """One of `BASELINE_SPACES` on one slide.

    ``Expression`` is the PCA (`COMPONENTS`) of the log-normalised `VARIABLE_GENES` most variable genes,
    ``SmoothedExpression`` that of the same genes after `smoothed`, ``Image`` the PCA of the frozen encoder's features,
    and ``Concatenation`` holds ``Image`` beside ``Expression``, each divided by the root of its total variance, so that
    neither outweighs the other in a distance only because its numbers are larger.

    Parameters
    ----------
    name
        Of the baseline.
    slide
        Its spots.
    seed
        Written into the space; a baseline does not depend on it.
    features
        ``embeddings/{encoder}/{sample}.h5``, for those with an image.
    """
    pretrained = None
    with threadpool_limits(1):  # the number of threads decides the last bits
        if name not in EXPRESSION_SPACES:
            with h5py.File(features) as file:
                pretrained = bool(file.attrs["pretrained"])
            image = components(spot_features(features, slide.barcode))
        if name != IMAGE:
            genes = variable_genes(slide)
            expression = components(smoothed(genes, slide.spatial) if name == SMOOTHED else genes)
    if name == CONCATENATION:
        embedding = concatenated(image, expression)
    elif name == IMAGE:
        embedding = image
    else:
        embedding = expression
    return Space(embedding.astype(np.float32), slide.barcode, name, seed, pretrained=pretrained)


def variable_genes(slide: SlideSpots) -> np.ndarray:
    """(N, at most `VARIABLE_GENES`) float64 log-expression of the genes of highest variance, in the slide's order.

    By the variance itself, which is what principal components go by. Choosing by normalised dispersion, the other
    habit, brings in genes that a few spots of a shallow slide hold, and k-means then sets such spots apart.
    """
    expression = sparse.csc_array(slide.expression).astype(np.float64)
    mean = expression.mean(axis=0)
    variance = expression.multiply(expression).mean(axis=0) - mean**2
    chosen = np.sort(np.argsort(-variance, kind="stable")[:VARIABLE_GENES])
    return expression[:, chosen].toarray()


def components(values: np.ndarray) -> np.ndarray:
    """Scores (N, at most `COMPONENTS`) of the principal components of ``values`` (N, F).

    As many as there can be where spots or features are few. Their signs, which nothing fixes, are those of scikit-learn
    (the largest loading is positive).
    """
    from sklearn.decomposition import PCA  # not for those who only read spaces

    return PCA(min(COMPONENTS, len(values) - 1, values.shape[1]), svd_solver="full").fit_transform(values)


def smoothed(values: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """Values (N, F) averaged over each spot and those around it, all with the same weight.

    Around it are the up to 8 (square array) or 6 (hexagonal) spots within `SURROUNDING_PITCHES`; at borders and holes
    those that are there.
    """
    around = adjacency(spatial, SURROUNDING_PITCHES) + sparse.eye_array(len(spatial))
    return (around @ values) / around.sum(axis=1)[:, None]


def concatenated(image: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Two embeddings of the same spots, (N, D) and (N, E), side by side: each centred, of total variance 1."""
    halves = [half - half.mean(axis=0) for half in (image, expression)]
    return np.hstack([half / np.sqrt((half**2).sum() / len(half)) for half in halves])
