"""Similarity and spatial autocorrelation of the expression maps of single genes.

Spots ``spatial`` (N, 2) lie, in any unit, on square arrays (legacy ST, pooled Xenium) or hexagonal ones (Visium), with
holes where there is no tissue and with small displacements. Distances are therefore measured in pitches, the median
distance between nearest spots. Expression is log-normalised, spots x genes (N, G), finite.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used
from scipy import sparse

from spotwise.data.spot_array import spot_pitch
from spotwise.evaluation.gene_metrics import check_finite, constant_genes, varying_blocks

# Adjacent spots are 1 pitch apart; the next ones sqrt(2) on a square array, sqrt(3) on a hexagonal one
ADJACENT_PITCHES = 1.3
# The window of Wang et al., IEEE Trans Image Process 13:600 (2004): 11 x 11, a Gaussian of 1.5; and their constants
WINDOW_HALF_WIDTH_PITCHES = 5.5
WINDOW_SIGMA_PITCHES = 1.5
K1, K2 = 0.01, 0.03


def spatial_metrics(predicted: np.ndarray, observed: np.ndarray, spatial: np.ndarray) -> pd.DataFrame:
    """Compute `score_files.SPATIAL_METRICS` of every gene of one slide, a row per gene."""
    ssim = ssim_per_gene(predicted, observed, gaussian_window(spatial))
    moran_observed, moran_predicted = (morans_i(values, adjacency(spatial)) for values in (observed, predicted))
    return pd.DataFrame({"ssim": ssim, "moran_observed": moran_observed, "moran_predicted": moran_predicted})


def _positive_pitch(spatial: np.ndarray) -> float:
    pitch = spot_pitch(spatial)
    if pitch == 0:
        raise ValueError("spots lie at the same place: there is no map to compare")
    return pitch


def adjacency(spatial: np.ndarray, pitches: float = ADJACENT_PITCHES) -> sparse.csr_array:
    """Build the adjacency matrix (N, N) of spots up to ``pitches`` apart.

    It is symmetric, 1.0 for adjacent spots, with nothing on the diagonal. By default a spot is adjacent to up to 4
    spots on a square array, 6 on a hexagonal one.
    """
    pairs = scipy.spatial.KDTree(spatial).query_pairs(pitches * _positive_pitch(spatial), output_type="ndarray")
    return _symmetric(len(spatial), pairs, np.ones(len(pairs)))


def gaussian_window(spatial: np.ndarray) -> sparse.csr_array:
    """Weight the spots (N, N) around each spot, itself included, by a Gaussian.

    Its standard deviation is 1.5 pitches, within a square of 11 pitches, and each row sums to 1. On a full square array
    this is the window of Wang et al. Where spots are missing, at the border and at holes, the present ones share the
    weight.
    """
    pitch = _positive_pitch(spatial)
    reach = WINDOW_HALF_WIDTH_PITCHES * pitch
    pairs = scipy.spatial.KDTree(spatial).query_pairs(reach, p=np.inf, output_type="ndarray")
    distance = np.linalg.norm(spatial[pairs[:, 0]] - spatial[pairs[:, 1]], axis=1) / pitch
    weights = _symmetric(len(spatial), pairs, np.exp(-((distance / WINDOW_SIGMA_PITCHES) ** 2) / 2))
    weights += sparse.eye_array(len(spatial))
    return (sparse.diags_array(1 / weights.sum(axis=1)) @ weights).tocsr()


def _symmetric(n: int, pairs: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """Build a symmetric (n, n) matrix with ``values`` (P,) at ``pairs`` (P, 2)."""
    upper = sparse.coo_array((values, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return (upper + upper.T).tocsr()


def ssim_per_gene(predicted: np.ndarray, observed: np.ndarray, window: sparse.csr_array) -> np.ndarray:
    """Compute the structural similarity (G,) of every gene's map (Wang et al., 2004).

    It is 1 for equal maps, near 0 for a constant prediction, and 0.0 where the truth is constant. scikit-image computes
    it for images on a full grid, not for spots with holes. The constants come from the range of the gene's truth on the
    slide. Both maps keep their unit: rescaling each to its own range would hide a prediction that shrinks towards the
    mean.
    """
    ssim = np.zeros(observed.shape[1])
    for genes in varying_blocks(constant_genes(observed)):
        pair = (values[:, genes].astype(np.float64) for values in (predicted, observed))
        ssim[genes] = ssim_map(*pair, window).mean(axis=0)
    return ssim


def ssim_map(predicted: np.ndarray, observed: np.ndarray, window: sparse.csr_array) -> np.ndarray:
    """Compute the similarity (N, G) around each spot, for genes whose truth varies."""
    c1, c2 = ((k * np.ptp(observed, axis=0)) ** 2 for k in (K1, K2))
    mean_p, mean_o = window @ predicted, window @ observed
    covariance = window @ (predicted * observed) - mean_p * mean_o
    variances = window @ (predicted * predicted) - mean_p * mean_p + (window @ (observed * observed) - mean_o * mean_o)
    level = (2 * mean_p * mean_o + c1) / (mean_p * mean_p + mean_o * mean_o + c1)
    return level * (2 * covariance + c2) / (variances + c2)


def morans_i(expression: np.ndarray, adjacent: sparse.csr_array) -> np.ndarray:
    """Compute Moran's I (G,) of every gene with scanpy.

    It is 1 for smooth maps, about 0 for noise, -1 for a checkerboard, and 0.0 for a constant gene or without any
    adjacent spots.
    """
    from scanpy.metrics import morans_i as scanpy_morans_i  # half a second, and not needed for adjacency

    check_finite(expression, "expression")
    moran = np.zeros(expression.shape[1])
    if not adjacent.nnz:
        return moran
    graph = sparse.csr_matrix(adjacent)
    for genes in varying_blocks(constant_genes(expression)):
        moran[genes] = scanpy_morans_i(graph, expression[:, genes].T.astype(np.float64))
    return moran
