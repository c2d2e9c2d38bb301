"""Scores of one prediction, gene by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spotwise.constants import OBSERVED, PROVENANCE, RUN_FIELDS, SPATIAL
from spotwise.evaluation.gene_metrics import (
    explained_variance_per_gene,
    pearson_per_gene,
    rmse_per_gene,
    spearman_per_gene,
)
from spotwise.evaluation.gene_sets import gene_ranks
from spotwise.evaluation.score_files import SCORE_COLUMNS, SPATIAL_METRICS
from spotwise.evaluation.spatial_metrics import spatial_metrics

if TYPE_CHECKING:
    from anndata import AnnData


def score_prediction(prediction: AnnData) -> pd.DataFrame:
    """Score one prediction, a checked prediction file, with one row per gene of the panel.

    Returns
    -------
    DataFrame
        `SCORE_COLUMNS`. Variances are those of the population (divided by N, as in the released code). A gene that the
        slide does not measure has NaN for everything that needs the truth, and rank 0.
    """
    measured = prediction.var["is_measured"].to_numpy(bool)
    predicted = np.asarray(prediction.X)
    observed = np.asarray(prediction.layers[OBSERVED])[:, measured]
    of_measured = predicted[:, measured]
    with_truth = pd.DataFrame(index=prediction.var_names[measured])
    with_truth["pcc"], with_truth["is_constant"] = pearson_per_gene(of_measured, observed)
    with_truth["rmse"] = rmse_per_gene(of_measured, observed)
    with_truth["spearman"] = spearman_per_gene(of_measured, observed)
    with_truth["explained_variance"] = explained_variance_per_gene(of_measured, observed)
    with_truth[list(SPATIAL_METRICS)] = spatial_metrics(of_measured, observed, prediction.obsm[SPATIAL]).to_numpy()
    with_truth["observed_mean"] = observed.mean(axis=0, dtype=np.float64)
    with_truth["observed_var"] = observed.var(axis=0, dtype=np.float64)

    scores = with_truth.reindex(prediction.var_names)
    scores["is_constant"] = scores["is_constant"].eq(True)
    scores["predicted_mean"] = predicted.mean(axis=0, dtype=np.float64)
    scores["predicted_var"] = predicted.var(axis=0, dtype=np.float64)
    scores[["rank_mean", "rank_var"]] = gene_ranks(prediction.var)
    scores["is_marker"] = prediction.var["is_marker"].to_numpy(bool)
    scores["is_measured"] = measured
    scores["n_spots"] = prediction.n_obs
    scores["gene"] = prediction.var_names.astype(str)
    run = {name: prediction.uns[PROVENANCE][name] for name in RUN_FIELDS}
    return scores.assign(**run).reset_index(drop=True)[list(SCORE_COLUMNS)]
