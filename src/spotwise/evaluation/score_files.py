"""Columns and Parquet files of scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import pandas as pd
import pyarrow.parquet

from spotwise.constants import RUN_FIELDS
from spotwise.errors import InputError
from spotwise.runtime.files import atomic

SPATIAL_METRICS = ("ssim", "moran_observed", "moran_predicted")
# one row per gene and prediction file
SCORE_COLUMNS = (
    *RUN_FIELDS,
    *("gene", "pcc", "rmse", "spearman", "explained_variance"),
    *SPATIAL_METRICS,
    *("observed_mean", "observed_var", "predicted_mean", "predicted_var"),
    *("rank_mean", "rank_var", "is_marker", "is_measured", "is_constant", "n_spots"),
)
# the columns that identify one prediction file
FILE_KEYS = ["cohort", "protocol", "predictor", "fold", "seed", "sample"]
SLIDE_METRICS = (
    *("correlation_HEG", "correlation_HVG", "mean_slope", "mean_intercept"),
    *("var_slope", "var_intercept", "hvg_recovery", "hvg_chance"),
)
# one row per prediction file
SLIDE_SCORE_COLUMNS = (*FILE_KEYS, "method", "kind", *SLIDE_METRICS)


def write_scores(scores: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table of scores as Parquet, atomically."""
    with atomic(path) as temporary:
        scores.to_parquet(temporary, index=False)


def read_scores(
    paths: Iterable[str | os.PathLike],
    columns: Sequence[str] = SCORE_COLUMNS,
    predictors: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read score files of one or several predictors each into one table.

    Rows keep their order. By default all predictors are read. `InputError` names a file that lacks one of ``columns``.
    """
    filters = None if predictors is None else [("predictor", "in", list(predictors))]
    tables = []
    for path in paths:
        present = pyarrow.parquet.read_schema(path).names
        if missing := [column for column in columns if column not in present]:
            raise InputError(path, "columns", present, "also " + ", ".join(missing))
        tables.append(pd.read_parquet(path, columns=list(columns), filters=filters))
    return pd.concat(tables, ignore_index=True)
