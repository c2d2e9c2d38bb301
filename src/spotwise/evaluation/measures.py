"""Measures beyond correlation and error: the expression map, its spatial autocorrelation, what a whole slide keeps.

Spots lie on square arrays (legacy ST, pooled Xenium) or hexagonal ones (Visium), with holes where there is no tissue,
and often somewhat off their places. What is near is therefore counted in pitches, the usual distance between nearest
spots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used
from scipy import sparse

from spotwise.constants import OBSERVED
from spotwise.evaluation.metrics import FILE_KEYS, gene_blocks, unit_columns

if TYPE_CHECKING:
    from anndata import AnnData

SPATIAL_MEASURES = ("ssim", "moran_observed", "moran_predicted")
SLIDE_MEASURES = (
    "correlation_HEG",
    "correlation_HVG",
    "mean_slope",
    "mean_intercept",
    "var_slope",
    "var_intercept",
    "hvg_recovery",
    "hvg_chance",
)
SLIDE_SCORE_COLUMNS = (*FILE_KEYS, "method", "kind", *SLIDE_MEASURES)

# Adjacent spots are 1 pitch apart; the next ones sqrt(2) on a square array, sqrt(3) on a hexagonal one
ADJACENT_PITCHES = 1.3
# The window of Wang et al., IEEE Trans Image Process 13:600 (2004): 11 x 11, a Gaussian of 1.5; and their constants
WINDOW_HALF_WIDTH_PITCHES = 5.5
WINDOW_SIGMA_PITCHES = 1.5
K1, K2 = 0.01, 0.03


# --- The map of one gene ----------------------------------------------------------------------------------------------


def spatial_measures(predicted: np.ndarray, observed: np.ndarray, spatial: np.ndarray) -> pd.DataFrame:
    """Compare the maps of every gene of one slide.

    Parameters
    ----------
    predicted, observed
        Log-normalised expression, spots x genes (N, G), finite.
    spatial
        (N, 2) spot centres, any unit.

    Returns
    -------
    DataFrame
        `SPATIAL_MEASURES`, a row per gene, see `ssim_per_gene` and `morans_i`.
    """
    near = adjacency(spatial)
    return pd.DataFrame(
        {
            "ssim": ssim_per_gene(predicted, observed, gaussian_window(spatial)),
            "moran_observed": morans_i(observed, near),
            "moran_predicted": morans_i(predicted, near),
        }
    )


def pitch(spatial: np.ndarray) -> float:
    """Median distance from a spot to its nearest, in the unit of ``spatial`` (N, 2); infinite for a single spot.

    Raises
    ------
    ValueError
        Most spots share their place with another.
    """
    usual = float(np.median(scipy.spatial.KDTree(spatial).query(spatial, k=2)[0][:, 1]))
    if usual == 0:
        raise ValueError("spots lie at the same place: there is no map to compare")
    return usual


def adjacency(spatial: np.ndarray, pitches: float = ADJACENT_PITCHES) -> sparse.csr_array:
    """Which spots are within some ``pitches``: (N, N) symmetric, 1.0 for these, nothing on the diagonal.

    By default those adjacent: the up to 4 (square array) or 6 (hexagonal) next ones.
    """
    pairs = scipy.spatial.KDTree(spatial).query_pairs(pitches * pitch(spatial), output_type="ndarray")
    return _pairwise(spatial, pairs)


def gaussian_window(spatial: np.ndarray) -> sparse.csr_array:
    """Weights (N, N) of the spots around each spot, itself included, that sum to 1 in each row.

    A Gaussian of 1.5 pitches within a square of 11 pitches: on a full square array the window of Wang et al. Where
    spots are missing, at the border and at holes, those that are there share the weight.
    """
    step = pitch(spatial)
    pairs = scipy.spatial.KDTree(spatial).query_pairs(WINDOW_HALF_WIDTH_PITCHES * step, p=np.inf, output_type="ndarray")
    distance = np.linalg.norm(spatial[pairs[:, 0]] - spatial[pairs[:, 1]], axis=1) / step
    weights = _pairwise(spatial, pairs, np.exp(-((distance / WINDOW_SIGMA_PITCHES) ** 2) / 2))
    weights += sparse.eye_array(len(spatial))
    return (sparse.diags_array(1 / weights.sum(axis=1)) @ weights).tocsr()


def _pairwise(spatial: np.ndarray, pairs: np.ndarray, values: np.ndarray | None = None) -> sparse.csr_array:
    """Symmetric (N, N) with ``values`` (default 1.0) at ``pairs`` (P, 2) and mirrored."""
    values = np.ones(len(pairs)) if values is None else values
    upper = sparse.coo_array((values, (pairs[:, 0], pairs[:, 1])), shape=(len(spatial), len(spatial)))
    return (upper + upper.T).tocsr()


def ssim_per_gene(predicted: np.ndarray, observed: np.ndarray, window: sparse.csr_array) -> np.ndarray:
    """Structural similarity of every gene's map, the mean over spots (Wang et al., 2004).

    Local means, variances and covariances are weighted by ``window``; the constants come from the range of the gene's
    truth on the slide. Both maps keep their unit: were each stretched to its own range first, as is often done, a
    prediction that shrinks towards the mean would look as good as one with the right contrast.

    Parameters
    ----------
    predicted, observed
        Log-normalised expression, spots x genes (N, G).
    window
        (N, N) from `gaussian_window`.

    Returns
    -------
    ndarray
        (G,) float64 in [-1, 1]: 1 for equal maps, near 0 for a constant; 0.0 where the truth is constant.
    """
    ssim = np.zeros(observed.shape[1])
    for genes in gene_blocks(len(ssim)):
        truth = observed[:, genes].astype(np.float64)
        varies = np.ptp(truth, axis=0) > 0
        places = np.arange(len(ssim))[genes][varies]
        ssim[places] = ssim_map(predicted[:, places].astype(np.float64), truth[:, varies], window).mean(axis=0)
    return ssim


def ssim_map(predicted: np.ndarray, observed: np.ndarray, window: sparse.csr_array) -> np.ndarray:
    """The similarity around each spot that `ssim_per_gene` averages: (N, G) float64 of genes whose truth varies."""
    c1, c2 = ((k * np.ptp(observed, axis=0)) ** 2 for k in (K1, K2))
    mean_p, mean_o = window @ predicted, window @ observed
    covariance = window @ (predicted * observed) - mean_p * mean_o
    variances = window @ (predicted * predicted) - mean_p * mean_p + (window @ (observed * observed) - mean_o * mean_o)
    level = (2 * mean_p * mean_o + c1) / (mean_p * mean_p + mean_o * mean_o + c1)
    return level * (2 * covariance + c2) / (variances + c2)


def morans_i(expression: np.ndarray, near: sparse.csr_array) -> np.ndarray:
    """Moran's I of every gene: how far adjacent spots are alike (Moran, Biometrika 37:17, 1950).

    The same as ``scanpy.metrics.morans_i``, which a test holds it to, without two seconds of imports in each job.

    Parameters
    ----------
    expression
        Spots x genes (N, G), finite.
    near
        (N, N) weights, symmetric, such as `adjacency`.

    Returns
    -------
    ndarray
        (G,) float64: 1 for smooth maps, about 0 for noise, -1 for a checkerboard; 0.0 for a constant gene, and where no
        spot is adjacent to another.
    """
    moran = np.zeros(expression.shape[1])
    if not near.nnz:
        return moran
    scale = len(expression) / near.sum()
    for genes in gene_blocks(len(moran)):
        unit, is_constant = unit_columns(expression[:, genes], "expression")
        moran[genes] = np.where(is_constant, 0.0, scale * np.einsum("ng,ng->g", unit, near @ unit))
    return moran


# --- The genes of one slide together ----------------------------------------------------------------------------------


def gene_gene_correlation(expression: np.ndarray) -> np.ndarray:
    """Pearson correlation between genes across spots.

    Parameters
    ----------
    expression
        Spots x genes (N, G), finite.

    Returns
    -------
    ndarray
        (G, G) float64, 1 on the diagonal; NaN in the rows and columns of genes that do not vary.
    """
    unit, is_constant = unit_columns(np.asarray(expression), "expression")
    correlation = np.clip(unit.T @ unit, -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    correlation[is_constant] = correlation[:, is_constant] = np.nan
    return correlation


def similarity(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Pearson correlation between the upper triangles of two gene-gene correlation matrices (G, G).

    Pairs that the truth leaves undefined are skipped. A pair that only the prediction leaves undefined counts as 0, so
    that predicting constants cannot raise the score; where all are, the similarity is 0. NaN where the truth's triangle
    does not vary.
    """
    upper = np.triu_indices_from(observed, k=1)
    pairs = ~np.isnan(observed[upper])
    truth, guess = observed[upper][pairs], np.nan_to_num(predicted[upper][pairs], nan=0.0)
    if truth.size < 2 or np.ptp(truth) == 0:
        return float("nan")
    return 0.0 if np.ptp(guess) == 0 else float(np.corrcoef(truth, guess)[0, 1])


def slide_scores(prediction: AnnData, scores: pd.DataFrame, top: int) -> dict[str, object]:
    """What one prediction keeps of a slide as a whole.

    Parameters
    ----------
    prediction
        As returned by `metrics.read_prediction`.
    scores
        Of the same prediction, from `metrics.score_prediction`.
    top
        Size of the HEG and HVG lists.

    Returns
    -------
    dict
        `SLIDE_SCORE_COLUMNS`. ``correlation_*``: `similarity` of the gene-gene correlations on the lists of the scores.
        ``mean_*`` and ``var_*``: least squares of the predicted on the observed mean and variance, over the measured
        genes. `hvg_recovery`; ``hvg_chance`` is the share that a list drawn at random is expected to hold.
    """
    measured = scores[scores["is_measured"]]
    row = {name: scores[name].iloc[0] for name in (*FILE_KEYS, "method", "kind")}
    for kind, rank in (("HEG", "rank_mean"), ("HVG", "rank_var")):
        genes = np.flatnonzero(scores[rank].between(1, top))
        matrices = [gene_gene_correlation(values[:, genes]) for values in (prediction.X, prediction.layers[OBSERVED])]
        row[f"correlation_{kind}"] = similarity(*matrices)
    for moment in ("mean", "var"):
        line = least_squares(measured[f"observed_{moment}"].to_numpy(), measured[f"predicted_{moment}"].to_numpy())
        row[f"{moment}_slope"], row[f"{moment}_intercept"] = line
    row["hvg_recovery"] = hvg_recovery(measured, top)
    row["hvg_chance"] = min(1.0, top / len(measured)) if len(measured) else np.nan
    return row


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the line through (x, y); NaN where ``x`` holds fewer than two values."""
    if x.size < 2 or np.ptp(x) == 0:
        return float("nan"), float("nan")
    deviation = x - x.mean()
    slope = float(deviation @ (y - y.mean()) / (deviation @ deviation))
    return slope, float(y.mean() - slope * x.mean())


def hvg_recovery(genes: pd.DataFrame, top: int) -> float:
    """Share of the slide's ``top`` most variable genes that are among the prediction's own ``top``.

    Parameters
    ----------
    genes
        Measured genes of one slide: ``gene``, ``observed_var``, ``predicted_var``. The truth is that of the slide under
        both protocols, as nothing is chosen by it.
    top
        Size of both lists. Ties go by gene name; a gene that does not vary is on no list.

    Returns
    -------
    float
        In [0, 1]; NaN where no gene varies.
    """
    truth, own = (_most_variable(genes.set_index("gene")[f"{kind}_var"], top) for kind in ("observed", "predicted"))
    return len(truth & own) / len(truth) if truth else float("nan")


def _most_variable(variance: pd.Series, top: int) -> set[str]:
    ranked = variance[variance > 0].sort_index().sort_values(ascending=False, kind="stable")
    return set(ranked.index[:top])
