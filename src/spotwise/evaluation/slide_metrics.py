"""Agreement of a prediction with a slide over all of its genes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.stats

from spotwise.constants import OBSERVED
from spotwise.evaluation.gene_metrics import check_finite, constant_genes
from spotwise.evaluation.score_files import FILE_KEYS

if TYPE_CHECKING:
    from anndata import AnnData


def slide_scores(prediction: AnnData, scores: pd.DataFrame, top: int) -> dict[str, object]:
    """Score what one prediction preserves of a slide as a whole, beside its `scores.score_prediction`.

    Returns
    -------
    dict
        `score_files.SLIDE_SCORE_COLUMNS`. ``correlation_*``: `similarity` of the gene-gene correlations on the lists of
        ``top`` genes. ``mean_*`` and ``var_*``: least squares of the predicted on the observed mean and variance, over
        the measured genes. `hvg_recovery` among the ranked genes; ``hvg_chance`` is that expected of a random list.
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
    ranked = scores[scores["rank_var"] > 0]
    row["hvg_recovery"] = hvg_recovery(ranked, top)
    row["hvg_chance"] = min(1.0, top / len(ranked)) if len(ranked) else np.nan
    return row


def gene_gene_correlation(expression: np.ndarray) -> np.ndarray:
    """Compute the Pearson correlation between genes across spots.

    ``expression`` is spots x genes (N, G), finite. The result (G, G) is float64, 1 on the diagonal and NaN in the rows
    and columns of genes that do not vary.
    """
    expression = np.asarray(expression, dtype=np.float64)
    check_finite(expression, "expression")
    correlation = np.full((expression.shape[1],) * 2, np.nan)
    varying = np.flatnonzero(~constant_genes(expression))
    if len(varying):
        correlation[np.ix_(varying, varying)] = np.corrcoef(expression[:, varying], rowvar=False)
        correlation[varying, varying] = 1.0
    return correlation


def similarity(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Correlate the upper triangles of two gene-gene correlation matrices (G, G).

    Pairs that the truth leaves undefined are skipped. A pair that only the prediction leaves undefined counts as 0, so
    that predicting constants cannot raise the score. The result is 0 where the prediction's triangle does not vary, NaN
    where the truth's does not.
    """
    upper = np.triu_indices_from(observed, k=1)
    pairs = ~np.isnan(observed[upper])
    truth, guess = observed[upper][pairs], np.nan_to_num(predicted[upper][pairs], nan=0.0)
    if truth.size < 2 or np.ptp(truth) == 0:
        return float("nan")
    return 0.0 if np.ptp(guess) == 0 else float(np.corrcoef(truth, guess)[0, 1])


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept of a line, NaN for a single value of ``x``."""
    if x.size < 2 or np.ptp(x) == 0:
        return float("nan"), float("nan")
    line = scipy.stats.linregress(x, y)
    return float(line.slope), float(line.intercept)


def hvg_recovery(genes: pd.DataFrame, top: int) -> float:
    """Compute the share of the slide's HVG that are among the prediction's, NaN where no gene varies.

    Both lists have ``top`` genes, ties by name, without genes that do not vary. The truth is that of the slide under
    both protocols, as it selects nothing.
    """
    truth, own = (_most_variable(genes.set_index("gene")[f"{kind}_var"], top) for kind in ("observed", "predicted"))
    return len(truth & own) / len(truth) if truth else float("nan")


def _most_variable(variance: pd.Series, top: int) -> set[str]:
    ranked = variance[variance > 0].sort_index().sort_values(ascending=False, kind="stable")
    return set(ranked.index[:top])
