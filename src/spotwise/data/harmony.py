"""Batch correction of the training expression by Harmony (Korsunsky et al., Nat Methods 16:1289, 2019)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from harmonypy import run_harmony

from spotwise.constants import PATIENT
from spotwise.data.folds import Fold

# The defaults of harmonypy 0.0.x, which BLEEP's preprocessing uses; later versions have others
SETTINGS = {
    "theta": 1.0,
    "lamb": 1.0,
    "sigma": 0.1,
    "max_iter_harmony": 10,
    "max_iter_kmeans": 20,
    "epsilon_cluster": 1e-5,
    "epsilon_harmony": 1e-4,
}
SPOTS_PER_CLUSTER, MAX_CLUSTERS = 30, 100


def harmonise(fold: Fold) -> Fold:
    """Correct the expression of a fold's training spots for their slides.

    As in BLEEP's released preprocessing, Harmony runs on the log-normalised matrix of the panel itself, not on its
    principal components, and each slide is a batch. Unlike there, the test slide keeps its measured expression: it is
    the truth, and a correction fitted with the training slides would pull it towards what is retrieved. Under the paper
    protocol the test slide still takes part in the fit, as there; under the patient protocol it does not. A fold with
    only one slide to fit on is returned as it is.
    """
    rows = fold.bank if fold.protocol == PATIENT else np.arange(len(fold.sample))
    slide = fold.sample[rows]
    if len(set(slide)) == 1:
        return fold
    corrected = run_harmony(
        fold.expression[rows].T,  # genes x spots: harmonypy guesses the orientation, wrongly if both are equally many
        {"slide": slide},
        "slide",
        nclust=int(np.clip(round(len(rows) / SPOTS_PER_CLUSTER), 1, MAX_CLUSTERS)),
        random_state=0,
        ncores=1,
        verbose=False,
        **SETTINGS,
    ).Z_corr
    expression = fold.expression.copy()
    trained = np.isin(rows, fold.bank)
    expression[rows[trained]] = corrected[trained]
    return replace(fold, expression=expression)
