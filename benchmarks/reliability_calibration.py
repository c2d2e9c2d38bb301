"""Calibration of the verdict ``reliable`` on simulated cohorts with known links between image and genes.

    OMP_NUM_THREADS=1 python -m benchmarks.reliability_calibration

writes ``docs/results/reliability_calibration.txt`` in five minutes on two idle cores. A cohort is simulated
spot by spot: image features that are smooth over the tissue, and genes that follow them or not. Ridge regressions are
trained with each patient left out, once on true and once on shuffled expression, and rated as a run would. What a gene
is worth in a new patient is measured on patients that neither the training nor the verdict has seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from scipy.ndimage import gaussian_filter

from spotwise.data.features import EmbeddedSpots
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.evaluation.reliability import LEVEL, rate_genes
from spotwise.models.ridge import Ridge
from spotwise.models.ridge_options import RidgeOptions
from spotwise.runtime.files import write_text

RESULT = Path(__file__).parents[1] / "docs" / "results" / "reliability_calibration.txt"

# Kinds of genes. linked: follows the image in every patient, the same way; half: only in every other patient, drawn by
# chance; own: in every patient, each time another way; smooth: a smooth map of its own, unknown to the image; shared: a
# smooth map that all such genes share, as coexpressed genes do; white: noise
UNLINKED = ("own", "smooth", "shared", "white")  # in a new patient
COHORTS = {
    "30 % linked": {"linked": 60, "half": 20, "own": 20, "smooth": 40, "shared": 40, "white": 20},
    "5 % linked": {"linked": 10, "own": 20, "smooth": 70, "shared": 70, "white": 30},
    "none linked": {"own": 40, "smooth": 60, "shared": 60, "white": 40},
}
SIZES = ((2, 1), (2, 2), (3, 1), (5, 1), (5, 2), (10, 1))  # patients, slides of each
REPEATS = 16
WORTH = (0.1, 0.2, 0.3, 0.4, 0.5, 1.0)  # bins of the PCC in new patients
NEW_PATIENTS = 6
EDGE = 18  # spots of a slide along one side
FIELDS = 6  # smooth maps that the image shows
FEATURES = 24
SMOOTH = (1.0, 3.0)  # standard deviations of the smoothing, in spots


@dataclass(frozen=True)
class Cohort:
    """What is simulated.

    Attributes
    ----------
    patients, slides
        Patients, and slides of each.
    genes
        Number of genes by kind.
    """

    patients: int
    slides: int
    genes: Mapping[str, int]

    @property
    def kinds(self) -> np.ndarray:
        """Kind of each gene (G,)."""
        return np.repeat(list(self.genes), list(self.genes.values()))


class Slide(NamedTuple):
    """Features (N, D), expression (N, G) and patient of a slide."""

    features: np.ndarray
    expression: np.ndarray
    patient: int


@dataclass(frozen=True)
class World:
    """Links that hold for all patients of a simulation.

    Attributes
    ----------
    weights
        (F, G) link of each gene to the maps of the image, of length 1.
    shares
        (G,) of a gene's variance within a slide that its own kind explains; the rest is noise.
    mixing
        (F, D) maps of the image in the features.
    """

    cohort: Cohort
    weights: np.ndarray
    shares: np.ndarray
    mixing: np.ndarray

    @classmethod
    def draw(cls, cohort: Cohort, rng: np.random.Generator) -> World:
        """Draw the links."""
        n = len(cohort.kinds)
        shares = np.where(cohort.kinds == "white", 0.0, rng.uniform(0.01, 0.5, n))
        return cls(cohort, _unit(rng.normal(size=(FIELDS, n))), shares, rng.normal(size=(FIELDS, FEATURES)))

    def patient(self, number: int, slides: int, rng: np.random.Generator) -> Iterator[Slide]:
        """Draw the slides of a patient."""
        kinds, n = self.cohort.kinds, len(self.cohort.kinds)
        weights = np.where(kinds == "linked", self.weights, 0.0)
        weights = np.where(kinds == "own", _unit(rng.normal(size=self.weights.shape)), weights)
        weights = np.where((kinds == "half") & (rng.random(n) < 0.5), self.weights, weights)
        stain, level = rng.normal(size=FEATURES), rng.normal(0, 0.5, n)
        for _ in range(slides):
            image, shared, own = _maps(FIELDS, rng), _maps(1, rng), _maps(n, rng)
            signal = image @ weights
            signal[:, kinds == "shared"] = shared
            signal[:, kinds == "smooth"] = own[:, kinds == "smooth"]
            noise = rng.normal(size=signal.shape)
            expression = np.sqrt(self.shares) * signal + np.sqrt(1 - self.shares) * noise + level
            features = image @ self.mixing + 2 * stain + rng.normal(size=(len(image), FEATURES))
            yield Slide(features, expression, number)


class Simulated(NamedTuple):
    """Scores of a simulated cohort, and the true worth of its genes.

    ``new`` (G,) is the mean PCC in new patients by the model of all patients.
    """

    scores: pd.DataFrame
    shuffled: pd.DataFrame
    patients: dict[str, str]
    kinds: np.ndarray
    new: np.ndarray


def simulate(cohort: Cohort, seed: int) -> Simulated:
    """Simulate a cohort, and cross-validate a ridge regression and its shuffled control."""
    rng = np.random.default_rng(seed)
    world = World.draw(cohort, rng)
    slides = [slide for number in range(cohort.patients) for slide in world.patient(number, cohort.slides, rng)]
    scores, shuffled = [], []
    for left_out in range(cohort.patients):
        training = [slide for slide in slides if slide.patient != left_out]
        dealt = [slide._replace(expression=rng.permutation(slide.expression)) for slide in training]
        for predictor, parts, table in (("Ridge", training, scores), ("ShuffledTraining", dealt, shuffled)):
            model = _fit(parts)
            for number, slide in enumerate(slides):
                if slide.patient == left_out:
                    table.append(_score(model, slide, predictor, left_out, f"S{number}"))
    model = _fit(slides)
    later = [slide for number in range(NEW_PATIENTS) for slide in world.patient(number, 1, rng)]
    new = np.mean([_score(model, slide, "Ridge", 0, "new")["pcc"] for slide in later], axis=0)
    patients = {f"S{number}": f"P{slide.patient}" for number, slide in enumerate(slides)}
    return Simulated(pd.concat(scores), pd.concat(shuffled), patients, cohort.kinds, new)


def rated(simulated: Simulated) -> pd.DataFrame:
    """Rate the genes, with their kind and worth in new patients beside the verdict.

    ``by_t`` is the verdict by a plain interval of Student's t over the units.
    """
    table, facts = rate_genes(simulated.scores, simulated.shuffled, {}, simulated.patients)
    patient = simulated.scores["sample"].map(simulated.patients)
    units = simulated.scores.groupby(["gene", patient])["pcc"].mean().unstack().loc[table["gene"]].to_numpy()
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, units.shape[1] - 1) * scipy.stats.sem(units, axis=1)
    return table.assign(
        kind=simulated.kinds,
        new=simulated.new,
        by_t=units.mean(axis=1) - half > facts["threshold"],
        mirrored=table["pcc_high"] < -facts["cutoff"],
    )


def summary(tables: list[pd.DataFrame]) -> dict[str, float]:
    """Summarise the rated genes of repeated simulations of one cohort."""
    genes = pd.concat(tables, keys=range(len(tables)), names=["repeat"])
    unlinked = genes["kind"].isin(UNLINKED)
    linked = genes["kind"].eq("linked")
    power = genes.loc[linked, "reliable"].groupby(pd.cut(genes.loc[linked, "new"], WORTH), observed=False).mean()
    called = genes["reliable"].groupby("repeat").sum()
    false = (genes["reliable"] & unlinked).groupby("repeat").sum()
    t_false = (genes["by_t"] & unlinked).groupby("repeat").sum()
    of_kind = genes.groupby("kind")["reliable"].mean()
    return {
        "reliable": called.mean(),
        "false": false.mean(),
        "mirrored": genes["mirrored"].groupby("repeat").sum().mean(),
        "false %": 100 * (false / called.clip(lower=1)).mean(),
        **{f"{kind} %": 100 * of_kind.get(kind, np.nan) for kind in ("linked", "half", *UNLINKED)},
        "covered %": 100 * genes["new"].between(genes["pcc_low"], genes["pcc_high"]).mean(),
        "t false %": 100 * (t_false / genes["by_t"].groupby("repeat").sum().clip(lower=1)).mean(),
        "t linked %": 100 * genes.loc[linked, "by_t"].mean(),
        **{f"{at.left:g}-{at.right:g}": 100 * share for at, share in power.items()},
    }


def _simulated_cohort(task: tuple[str, tuple[int, int], int]) -> pd.DataFrame:
    name, (patients, slides), repeat = task
    return rated(simulate(Cohort(patients, slides, COHORTS[name]), 1000 * repeat + 10 * patients + slides))


def _unit(weights: np.ndarray) -> np.ndarray:
    return weights / np.linalg.norm(weights, axis=0)


def _maps(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw smooth maps (N, n) of a slide, each with mean 0 and variance 1."""
    fields = [gaussian_filter(rng.normal(size=(EDGE, EDGE)), rng.uniform(*SMOOTH)).ravel() for _ in range(n)]
    maps = np.stack(fields, axis=1)
    return (maps - maps.mean(axis=0)) / maps.std(axis=0)


def _fit(slides: list[Slide]) -> tuple[Ridge, dict[str, np.ndarray]]:
    group = np.repeat([slide.patient for slide in slides], EDGE**2)
    spots = _spots(np.concatenate([slide.features for slide in slides]), group)
    method = Ridge(RidgeOptions())
    return method, method.fit(spots, np.concatenate([slide.expression for slide in slides]))[0]


def _spots(features: np.ndarray, group: np.ndarray) -> EmbeddedSpots:
    grid = np.stack(np.divmod(np.arange(EDGE**2), EDGE), axis=1).astype(float)
    return EmbeddedSpots(features, group, group, np.tile(grid, (len(group) // EDGE**2, 1)), np.ones(len(group)))


def _score(model: tuple, slide: Slide, predictor: str, fold: int, sample: str) -> pd.DataFrame:
    method, weights = model
    predicted = method.predict(weights, _spots(slide.features, np.full(EDGE**2, slide.patient)), slide.expression)
    pcc, is_constant = pearson_per_gene(predicted, slide.expression)
    run = {"cohort": "simulated", "protocol": "patient", "predictor": predictor, "fold": fold, "seed": 0}
    genes = [f"G{number:03d}" for number in range(len(pcc))]
    table = pd.DataFrame({"gene": genes, "pcc": pcc, "is_constant": is_constant, "is_measured": True})
    return table.assign(**run, sample=sample)


INTRODUCTION = f"""\
Calibration of the verdict `reliable` on simulated cohorts of 200 genes and {EDGE**2} spots per slide,
{REPEATS} cohorts a row. Written by `python -m benchmarks.reliability_calibration`.

linked: follows the image in every patient the same way; half: in every other patient, by chance; own: in every patient,
each time another way; smooth: has a smooth map of its own; shared: has one smooth map with all others of the kind;
white: noise.

reliable: genes per cohort so called; false: those of no link in a new patient (own, smooth, shared, white); false %:
their share of the reliable ones, mean over cohorts; mirrored: genes whose interval lies as far below 0, which every run
reports; linked % ... white %: share of the kind's genes that are called reliable; covered %: intervals that hold the
mean PCC in {NEW_PATIENTS} new patients, of all genes; t false %, t linked %: by a plain interval of Student's t.
Power: share of linked genes called reliable, by their mean PCC in the new patients.
"""


def write_tables(tasks: list[tuple[str, tuple[int, int], int]], tables: list[pd.DataFrame]) -> None:
    """Write the summary of the rated genes of each simulation of ``tasks``."""
    lines = [INTRODUCTION]
    for name in COHORTS:
        rows = {}
        for size in SIZES:
            of_size = [table for task, table in zip(tasks, tables, strict=True) if task[:2] == (name, size)]
            rows["{} patients x {}".format(*size)] = summary(of_size)
        table = pd.DataFrame(rows).T.dropna(axis=1, how="all")
        is_power = table.columns.str.match(r"\d")
        lines.append(f"{name}: " + ", ".join(f"{n} {kind}" for kind, n in COHORTS[name].items()))
        lines.append(table.loc[:, ~is_power].to_string(float_format="{:.1f}".format) + "\n")
        if is_power.any():
            power = table.loc[:, is_power].rename_axis("Power, %", axis=1)
            lines.append(power.to_string(float_format="{:.0f}".format) + "\n")
    write_text(RESULT, "\n".join(lines))


def main() -> None:
    """Simulate all cohorts and write the table."""
    tasks = list(product(COHORTS, SIZES, range(REPEATS)))
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        tables = list(pool.map(_simulated_cohort, tasks))
    write_tables(tasks, tables)


if __name__ == "__main__":
    main()
