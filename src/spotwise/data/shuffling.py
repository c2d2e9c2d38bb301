"""Training expression dealt out anew over the training spots, for controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spotwise.constants import COHORT
from spotwise.data.folds import Fold


def shuffle_training(fold: Fold, over: str) -> Fold:
    """Deal out the expression of a fold's training spots anew, so that it no longer belongs to their images.

    Training and validation spots exchange their rows of expression. Everything else stays with its spot: image,
    position, role and total counts. Test spots stay as they are. The order depends on the number of the fold alone.

    Parameters
    ----------
    fold
        The fold, whose expression may be corrected for slides.
    over
        ``slide``: among the spots of each slide, which keeps what slides differ in as a whole; ``cohort``: among all
        training spots, which leaves no link between expression and image.
    """
    rng = np.random.default_rng([0, fold.fold])
    bank = fold.bank
    slides = dict.fromkeys(fold.sample[bank])
    groups = [bank] if over == COHORT else [bank[fold.sample[bank] == slide] for slide in slides]
    expression = fold.expression.copy()
    for rows in groups:
        expression[rows] = fold.expression[rng.permutation(rows)]
    return replace(fold, expression=expression)
