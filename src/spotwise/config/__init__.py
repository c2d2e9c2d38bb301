"""The configuration of a run: its settings, how it is read and checked, and what follows from it.

The public functions work on the plain dictionary that Snakemake holds. :func:`prepare` adds the defaults in place.
"""

from spotwise.config.checks import label_file, prepare, require_labels, run_samples
from spotwise.config.predictors import (
    Predictor,
    fold_plans,
    folds_that_test,
    plans_by_protocol,
    predictors,
    predicts,
    seeds,
    stands,
)
from spotwise.config.reading import explained, read_config, type_overrides

__all__ = [
    "Predictor",
    "explained",
    "fold_plans",
    "folds_that_test",
    "label_file",
    "plans_by_protocol",
    "predictors",
    "predicts",
    "prepare",
    "read_config",
    "require_labels",
    "run_samples",
    "seeds",
    "stands",
    "type_overrides",
]
