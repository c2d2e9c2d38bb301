"""Predictors that see no image, as controls.

A method's gain over them is what it learns from the slide. Two of them, :class:`Oracle` and :class:`NoiseCeiling`, read
the truth and are upper bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy  # imports subpackages on first use

from spotwise.constants import TEST
from spotwise.data.folds import Fold
from spotwise.data.spot_array import spot_pitch


class Control(ABC):
    """Base class of the controls."""

    @abstractmethod
    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        """Predict a test slide.

        Parameters
        ----------
        fold, sample
            The fold, and the test slide of N spots.
        seed
            Seed of a random control.
        ceiling
            (G,) noise ceiling of each gene of the panel on the slide, NaN where the slide does not measure it. Only
            :class:`NoiseCeiling` uses it; ``None`` where it was not computed.

        Returns
        -------
        ndarray
            (N, G) float32 log-normalised expression, finite.
        """

    def note(self, fold: Fold, sample: str) -> str:
        """Return a remark on the prediction of a slide for readers of the scores, mostly none."""
        return ""


@dataclass(frozen=True)
class TrainMean(Control):
    """Every spot is the mean of the training spots, with a PCC of 0."""

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        return np.tile(_training_mean(fold).astype(np.float32), (len(fold.rows(TEST, sample=sample)), 1))


@dataclass(frozen=True)
class RandomRetrieval(Control):
    """Every spot is the mean of ``k`` random training spots, a retrieval without images."""

    k: int = 50

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        bank = fold.expression[fold.bank]
        rng = np.random.default_rng(seed)
        return np.stack(
            [
                bank[rng.choice(len(bank), min(self.k, len(bank)), replace=False)].mean(axis=0)
                for _ in fold.rows(TEST, sample=sample)
            ]
        )


@dataclass(frozen=True)
class LibrarySize(Control):
    """Every gene is linear in the spot's log total counts, fitted within the training slides.

    It reads the measured depth of the test spots, which no image method knows, and shows how much of a PCC may be due
    to sequencing depth. Depth is centred per slide, as slides differ in it by an order of magnitude.
    """

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        bank = fold.bank
        depth = np.log1p(fold.total_counts.astype(np.float64))
        for rows in _slides(fold.sample):
            above_first = depth[rows] - depth[rows[0]]  # exactly 0 where all are equal, unlike a mean
            depth[rows] = above_first - above_first.mean()
        mean = _training_mean(fold)
        x = depth[bank]
        slope = x @ (fold.expression[bank] - mean) / max(x @ x, np.finfo(float).tiny)
        return (mean + np.outer(depth[fold.rows(TEST, sample=sample)], slope)).astype(np.float32)


@dataclass(frozen=True)
class Coordinates(Control):
    """Every gene is a polynomial in the spot's position, fitted by least squares within the training slides.

    It shows how much of a PCC is due to layout alone, such as the same side of the tissue on every slide. Positions are
    measured from the middle of the slide's spots in units of their extent, so that slides of any size are comparable.
    """

    degree: int = 3

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        bank, terms, mean = fold.bank, self._terms(fold), _training_mean(fold)
        weights = np.linalg.lstsq(terms[bank], fold.expression[bank] - mean, rcond=None)[0]
        return (mean + terms[fold.rows(TEST, sample=sample)] @ weights).astype(np.float32)

    def _terms(self, fold: Fold) -> np.ndarray:
        """Compute the terms (N, T) of each spot's position, centred per slide."""
        place = np.empty((len(fold.spatial), 2))
        for rows in _slides(fold.sample):
            spatial = fold.spatial[rows]
            extent = np.ptp(spatial, axis=0)
            place[rows] = (spatial - spatial.min(axis=0)) / np.where(extent > 0, extent, 1) - 0.5
        x, y = place.T
        powers = range(self.degree + 1)
        terms = np.stack([x**i * y**j for i in powers for j in powers if 0 < i + j <= self.degree], axis=1)
        for rows in _slides(fold.sample):
            terms[rows] -= terms[rows].mean(axis=0)
        return terms


@dataclass(frozen=True)
class NeighbourSlide(Control):
    """Every spot is the spot at its position on the other training slides of the patient, averaged over slides.

    Positions are measured from the slide's mean in units of its pitch, without registration. Where the sections of a
    patient are adjacent, this copy scores high without an image; a method that only matches it has learnt nothing that
    generalises to other patients. Where training has no slide of the patient, as always under the patient protocol, it
    is the training mean.
    """

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        others = self._others(fold, sample)
        if not others:
            return TrainMean().predict(fold, sample, seed, ceiling)
        here = _in_pitches(fold.spatial[fold.rows(TEST, sample=sample)])
        trees = [scipy.spatial.KDTree(_in_pitches(fold.spatial[there])) for there in others]
        copies = [fold.expression[there][tree.query(here)[1]] for there, tree in zip(others, trees, strict=True)]
        return np.mean(copies, axis=0, dtype=np.float64).astype(np.float32)

    def note(self, fold: Fold, sample: str) -> str:
        return "" if self._others(fold, sample) else "no training slide of the patient: training mean"

    @staticmethod
    def _others(fold: Fold, sample: str) -> list[np.ndarray]:
        """Return the rows of each training slide of the patient of ``sample``."""
        patient = fold.patient[fold.rows(TEST, sample=sample)[0]]
        rows = fold.bank[fold.patient[fold.bank] == patient]
        return [rows[slide] for slide in _slides(fold.sample[rows])]


@dataclass(frozen=True)
class Oracle(Control):
    """The truth itself, as an upper bound.

    Its PCC is 1 wherever the truth varies; a lower score reveals an error between prediction and score. A gene that the
    slide does not measure is its training mean.
    """

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        observed = fold.expression[fold.rows(TEST, sample=sample)]
        return np.where(np.isnan(observed), _training_mean(fold), observed).astype(np.float32)


@dataclass(frozen=True)
class NoiseCeiling(Control):
    """A simulated best predictor, made from the truth, as an upper bound.

    It scores on every gene like a method that knows the true expression of each spot, but not the noise of its
    measurement: its correlation is the noise ceiling ``c``, its RMSE the noise alone (derived in ``docs/controls.md``).
    A gene of constant truth is predicted constant; one that the slide does not measure is its training mean.
    """

    def predict(self, fold: Fold, sample: str, seed: int, ceiling: np.ndarray | None) -> np.ndarray:
        observed = fold.expression[fold.rows(TEST, sample=sample)].astype(np.float64)
        predicted = np.tile(_training_mean(fold), (len(observed), 1))
        measured = np.isfinite(ceiling) & np.isfinite(observed).all(axis=0)
        truth, c = observed[:, measured], ceiling[measured]
        mean = truth.mean(axis=0)
        z = truth - mean
        smallest = np.finfo(float).tiny
        w = np.random.default_rng(seed).standard_normal(z.shape)
        w -= w.mean(axis=0)
        w -= z * ((z * w).sum(axis=0) / np.maximum((z * z).sum(axis=0), smallest))
        w *= np.linalg.norm(z, axis=0) / np.maximum(np.linalg.norm(w, axis=0), smallest)
        predicted[:, measured] = mean + c * (c * z + np.sqrt(1 - c**2) * w)
        return predicted.astype(np.float32)


def _training_mean(fold: Fold) -> np.ndarray:
    """Return the mean of the training spots, (G,) float64."""
    return fold.expression[fold.bank].mean(axis=0, dtype=np.float64)


def _slides(sample: np.ndarray) -> list[np.ndarray]:
    """Return the indices in ``sample`` (N,) of each slide's spots."""
    return [np.flatnonzero(sample == slide) for slide in dict.fromkeys(sample)]


def _in_pitches(spatial: np.ndarray) -> np.ndarray:
    """Express spot centres (N, 2) relative to their mean, in units of the median distance of nearest spots."""
    return (spatial - spatial.mean(axis=0)) / (spot_pitch(spatial) or 1.0)
