"""Reliability of a predictor, gene by gene, from its cross-validation.

Units are the patients left out, and few. The spread of a gene over two or three of them is far too small as often as
far too large. Variances are therefore shrunk to those of all genes (Smyth, Stat Appl Genet Mol Biol 3:3, 2004, as in
limma's squeezeVar), and none is below the variance of correlations that mean nothing, those of the shuffled control.

The variance of a mean over units is twice what it would be of independent ones. Without a link in new patients, the PCC
of unit u is a product of its own chance association of gene and image with the mean one of the others. The mean over U
units then holds every pair twice, and varies by 2 / U of what one unit does. With two units both PCC are nearly equal,
whatever they are, and their spread says nothing. `benchmarks.reliability_calibration` measures what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy  # imports subpackages on first use

from spotwise.constants import PAPER
from spotwise.errors import InputError
from spotwise.inference.prediction_files import read_ceiling

LEVEL = 0.95
THRESHOLD_QUANTILE = 0.95
FALSE_SHARE = 0.05  # of the reliable genes, as estimated by mirrored intervals
# columns of scores that are read
RATED_COLUMNS = ("cohort", "protocol", "predictor", "fold", "seed", "sample", "gene", "pcc", "is_measured")
RELIABILITY_COLUMNS = (
    *("gene", "pcc", "pcc_low", "pcc_high", "ceiling", "positive_share"),
    *("n_slides", "n_units", "reliable"),
)
PATIENT_UNITS, SLIDE_UNITS = "patient", "slide"
LARGEST_Z = np.arctanh(0.999)
DEPENDENCE = 2  # variance of a mean over units, to that over independent ones


def rate_genes(
    scores: pd.DataFrame,
    shuffled: pd.DataFrame,
    ceilings: Mapping[str, Path],
    patients: Mapping[str, str],
    panel: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Rate every gene of one predictor by its scores in the cross-validation.

    A gene is ``reliable`` if the lower end of its interval is above the 95th percentile, over genes, of the shuffled
    control's mean PCC, above 0, and above what :func:`cutoff_above_chance` finds. With a single unit there is no
    interval, and no gene is.

    Parameters
    ----------
    scores, shuffled
        Rows of `score_files.SCORE_COLUMNS` of one predictor, and of the control ``ShuffledTraining``, in one cohort and
        protocol. Seeds are averaged.
    ceilings
        ``ceiling.tsv`` by sample; the ceilings of samples that are not among them are left out.
    patients
        Patient by sample.
    panel
        Genes to list, in this order; by default those of all folds. Genes without a score are listed without one.

    Returns
    -------
    table
        A row per gene, `RELIABILITY_COLUMNS`: pcc, mean over the units that measure the gene, a unit being a patient
        (the mean of its slides), else a slide; pcc_low and pcc_high, its 95 % interval; ceiling, the mean noise
        ceiling of the slides that measure it, in whatever panel; positive_share, the share of slides in which the PCC
        is above 0; n_slides and n_units that measure the gene. Numbers that do not exist are NaN.
    facts
        How the verdict was reached, as plain values: cohort, protocol, predictor, control, basis (``patient`` or
        ``slide``), n_units, n_slides, n_seeds, interval, threshold, cutoff, prior_variance, prior_df, floor_variance,
        n_genes, n_reliable, n_mirrored (genes whose interval lies as far below 0, at most `FALSE_SHARE`),
        n_partly_scored (genes without a score in every unit), n_not_scored, remarks.

    Raises
    ------
    InputError
        There are no scores of the predictor or control, those of several, or a sample without a patient.
    """
    run, of_control = _only_run(scores, "scores"), _only_run(shuffled, "scores of the shuffled control")
    for key in ("cohort", "protocol"):
        if of_control[key] != run[key]:
            raise InputError("scores of the shuffled control", key, of_control[key], run[key])
    basis = _basis(scores, patients, run["protocol"])
    slides, units = _by_unit(scores, patients, basis)
    _, null_units = _by_unit(shuffled, patients, basis)
    genes = pd.Index(units.index if panel is None else panel, name="gene")

    means = null_units.mean(axis=1).dropna()
    threshold = max(float(means.quantile(THRESHOLD_QUANTILE)), 0.0)
    interval = shrunken_intervals(_fisher(units), _fisher(null_units))
    bounds = pd.DataFrame(np.tanh(interval["bounds"]), units.index, ["pcc_low", "pcc_high"]).reindex(genes)
    mirrored = -bounds["pcc_high"].to_numpy()
    cutoff = cutoff_above_chance(bounds["pcc_low"].to_numpy(), mirrored, threshold)
    measured = slides.reindex(genes)
    table = pd.DataFrame(
        {
            "pcc": units.mean(axis=1).reindex(genes),
            **bounds,
            "ceiling": _mean_ceiling([ceilings[sample] for sample in slides if sample in ceilings], genes),
            "positive_share": measured.gt(0).sum(axis=1) / measured.notna().sum(axis=1).replace(0, np.nan),
            "n_slides": measured.notna().sum(axis=1),
            "n_units": units.notna().sum(axis=1).reindex(genes, fill_value=0),
            "reliable": bounds["pcc_low"] > cutoff,  # False for NaN
        },
        index=genes,
    ).reset_index()[list(RELIABILITY_COLUMNS)]
    facts = {
        **run,
        "control": of_control["predictor"],
        "basis": basis,
        "n_units": units.shape[1],
        "n_slides": slides.shape[1],
        "n_seeds": int(scores["seed"].nunique()),
        "interval": _describe(units.shape[1]),
        "threshold": threshold,
        "cutoff": cutoff,
        **{name: interval[name] for name in ("prior_variance", "prior_df", "floor_variance")},
        "n_genes": len(table),
        "n_reliable": int(table["reliable"].sum()),
        "n_mirrored": int((mirrored > cutoff).sum()),
        "n_partly_scored": int(table["n_units"].between(1, units.shape[1] - 1).sum()),
        "n_not_scored": int(table["n_units"].eq(0).sum()),
    }
    return table, {**facts, "remarks": _remarks(facts)}


def cutoff_above_chance(low: np.ndarray, mirrored: np.ndarray, threshold: float) -> float:
    """Find the lowest cutoff, from a threshold up, at which few reliable genes are due to chance.

    Chance is symmetric: where it puts one interval wholly above a cutoff, it puts another as far below 0. Their number
    estimates that of the false genes, as decoys do in proteomics (Elias and Gygi, Nat Methods 4:207, 2007).

    Parameters
    ----------
    low, mirrored
        (G,) lower ends of the intervals, and their upper ends with the sign changed; NaN without an interval.
    threshold
        Lowest cutoff.

    Returns
    -------
    float
        The cutoff, above which ``mirrored`` are at most `FALSE_SHARE` of ``low``.
    """
    candidates = [threshold, *np.sort(mirrored[mirrored > threshold])]
    few = (one for one in candidates if (mirrored > one).sum() <= FALSE_SHARE * (low > one).sum())
    return float(next(few))  # none is above the largest mirrored one


def shrunken_intervals(z: np.ndarray, null: np.ndarray) -> dict[str, object]:
    """Compute 95 % intervals of means over few units, with variances shrunk over genes.

    Parameters
    ----------
    z
        (G, U) Fisher's z of each gene and unit left out, NaN where a unit does not measure the gene.
    null
        (H, V) the same for the control, whose expectation is 0. Its mean square is the least variance; exact zeros, of
        constant predictions, are left out.

    Returns
    -------
    dict
        ``bounds`` (G, 2), NaN for a gene of fewer than two units; ``prior_variance`` and ``prior_df``, to which the
        variances are shrunk; ``floor_variance``. These are ``None`` where no gene has two units.
    """
    n = (~np.isnan(z)).sum(axis=1)
    bounds = np.full((len(z), 2), np.nan)
    several = n > 1
    if not several.any():
        return {"bounds": bounds, "prior_variance": None, "prior_df": None, "floor_variance": None}
    variances, df = np.nanvar(z[several], axis=1, ddof=1), n[several] - 1
    prior, prior_df = variance_prior(variances, df)
    varying = null[np.isfinite(null) & (null != 0)]
    floor = float(np.mean(varying**2)) if len(varying) else 0.0
    posterior = np.maximum((prior_df * prior + df * variances) / (prior_df + df), floor)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, prior_df + df) * np.sqrt(DEPENDENCE * posterior / n[several])
    bounds[several] = np.nanmean(z[several], axis=1)[:, None] + half[:, None] * [-1, 1]
    return {"bounds": bounds, "prior_variance": prior, "prior_df": prior_df, "floor_variance": floor}


def variance_prior(variances: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """Estimate the scaled inverse chi-squared distribution of true variances.

    The moments of log variances are matched as by limma's ``fitFDist`` (Smyth 2004, section 6.2). Variances of 0, of
    genes that are constant everywhere, are left out.

    Parameters
    ----------
    variances, df
        (G,) sample variances and their degrees of freedom.

    Returns
    -------
    prior, prior_df
        Variance and degrees of freedom; at most as many as all genes have together.
    """
    kept = variances > 0
    total = float(df.sum())
    if kept.sum() < 2:
        return float(variances.mean()), total
    digamma, polygamma = scipy.special.digamma, scipy.special.polygamma
    half = df[kept] / 2
    logs = np.log(variances[kept]) - digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - polygamma(1, half).mean()  # variance of the true log variances
    if excess <= polygamma(1, total / 2):
        return float(np.exp(logs.mean())), total
    prior_df = 2 * scipy.optimize.brentq(lambda x: polygamma(1, x) - excess, 1e-8, total / 2)
    return float(np.exp(logs.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))), float(prior_df)


def _only_run(scores: pd.DataFrame, what: str) -> dict[str, str]:
    run = {}
    for key in ("cohort", "protocol", "predictor"):
        found = sorted(scores[key].unique())
        if len(found) != 1:
            raise InputError(what, key, ", ".join(found) or "none", f"one {key}")
        run[key] = found[0]
    return run


def _basis(scores: pd.DataFrame, patients: Mapping[str, str], protocol: str) -> str:
    samples = scores["sample"].unique()
    if missing := [sample for sample in samples if sample not in patients]:
        raise InputError("patients", "sample", ", ".join(sorted(patients)) or "none", "also " + ", ".join(missing))
    alone = len({patients[sample] for sample in samples}) == 1
    return SLIDE_UNITS if alone or protocol == PAPER else PATIENT_UNITS


def _by_unit(scores: pd.DataFrame, patients: Mapping[str, str], basis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the PCC over seeds into genes x slides, and over slides into genes x units."""
    measured = scores[scores["is_measured"].astype(bool)]
    slides = measured.pivot_table(index="gene", columns="sample", values="pcc", aggfunc="mean", sort=False)
    slides = slides.reindex(dict.fromkeys(scores["gene"]))  # with genes that no slide measures
    slides.index.name = "gene"
    if basis == SLIDE_UNITS:
        return slides, slides
    return slides, slides.T.groupby(slides.columns.map(patients), sort=False).mean().T


def _fisher(units: pd.DataFrame) -> np.ndarray:
    return np.clip(np.arctanh(units.to_numpy(np.float64)), -LARGEST_Z, LARGEST_Z)


def _mean_ceiling(paths: Sequence[Path], genes: pd.Index) -> np.ndarray:
    ceilings = [read_ceiling(path, genes) for path in paths]
    return pd.DataFrame(ceilings, columns=genes, dtype=float).mean(axis=0).to_numpy()


def _describe(n_units: int) -> str:
    if n_units < 2:
        return "none"
    return "95 %, Student's t on Fisher's z of the units, with variances shrunk over genes and at least the control's"


def _remarks(facts: Mapping[str, object]) -> list[str]:
    remarks = []
    if facts["basis"] == SLIDE_UNITS:
        remarks.append("units are slides, not patients: how well genes are predicted in a new patient is not known")
    if facts["n_units"] < 2:
        remarks.append("one unit alone: no interval, and no gene is called reliable")
    elif facts["n_units"] == 2:
        remarks.append(
            "two units alone: a link that they share by chance cannot be told from one that holds for others"
        )
    if facts["floor_variance"] == 0:
        remarks.append("the control predicts constants: chance is judged by the spread of the units alone")
    for count, what in (
        ("n_partly_scored", "genes have no score in every unit, as some panels or slides lack them"),
        ("n_not_scored", "genes have no score, as no fold's panel holds them: not called reliable"),
    ):
        if facts[count]:
            remarks.append(f"{facts[count]} {what}")
    return remarks
