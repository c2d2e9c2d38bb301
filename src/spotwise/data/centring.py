"""Expression, features and embeddings without what slides differ in as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spotwise.data.folds import Fold

# Deviations below this share of a feature's mean are rounding of float32
RESOLUTION = 1e-6


def centre_slides(fold: Fold) -> Fold:
    """Centre the expression of a fold's training spots on each slide.

    Each gene loses its mean over the slide's training and validation spots and gains the mean over training slides,
    each of equal weight. All training slides then have the same mean, so that no model can learn which slide a spot is
    of. Nothing of the test slides is read or changed.
    """
    expression = fold.expression.copy()
    slides = [fold.bank[fold.sample[fold.bank] == slide] for slide in dict.fromkeys(fold.sample[fold.bank])]
    means = [expression[rows].mean(axis=0, dtype=np.float64) for rows in slides]
    common = np.mean(means, axis=0)
    for rows, mean in zip(slides, means, strict=True):
        expression[rows] = expression[rows] - mean + common
    return replace(fold, expression=expression)


def centred(values: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Subtract from rows (N, D) the mean of their slide, ``sample`` (N,)."""
    found = np.empty_like(values)
    for slide in dict.fromkeys(sample):
        rows = sample == slide
        found[rows] = values[rows] - values[rows].mean(axis=0, dtype=np.float64)
    return found


def standardised(values: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Scale rows (N, D) to mean 0 and standard deviation 1 on their slide, ``sample`` (N,).

    A column that is constant on a slide is 0 there.
    """
    found = np.zeros_like(values)
    for slide in dict.fromkeys(sample):
        rows = sample == slide
        here = values[rows].astype(np.float64)
        mean, deviation = here.mean(axis=0), here.std(axis=0)
        varies = deviation > RESOLUTION * np.abs(mean)
        found[np.ix_(rows, varies)] = (here[:, varies] - mean[varies]) / deviation[varies]
    return found
