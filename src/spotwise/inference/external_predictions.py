"""Predictions of other tools as prediction files of the run, and what of them did not match."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spotwise.constants import EXTERNAL, TEST
from spotwise.data.folds import Fold, read_fold
from spotwise.errors import InputError
from spotwise.inference.external_files import ExternalSlide, Scale, read_external
from spotwise.inference.observed_files import evaluated_genes
from spotwise.inference.prediction_files import write_prediction

logger = logging.getLogger(__name__)

FEWEST_SCORED = 0.5  # share of the scored genes that a file must have
WILD_ERROR = 5.0  # RMSE, relative to that of the training mean, above which units are doubted
# counts of one file, and the number of scored genes
COUNTS = ("n_spots", "n_other_spots", "n_genes", "n_missing_genes", "n_other_genes", "n_scored", "n_scored_missing")
COUNTS += ("n_negative",)

# genes of a slide, by `evaluated_genes`, -> which of them Table 1 scores
Scored = Callable[[pd.DataFrame], np.ndarray]


def import_predictions(
    folds: Sequence[str | Path],
    files: Mapping[str, str | Path],
    scale: Scale,
    scored: Scored,
    tool: str,
    trained_on: str,
    seed: int,
    output: Path,
) -> pd.DataFrame:
    """Import the predictions of all test slides of a cohort and protocol.

    Parameters
    ----------
    folds
        ``fold.h5`` of all folds.
    files
        File of each test slide, by sample.
    scale
        What their values are.
    scored
        Tells which genes of a slide Table 1 scores.
    tool, trained_on, seed
        Name in the tables, its training slides in words, and the seed to note in the predictions.
    output
        Folder for ``fold{fold}/seed{seed}/{tool}/{sample}.h5ad``.

    Returns
    -------
    DataFrame
        A row per slide: cohort, protocol, predictor, sample, file, `COUNTS`, relative_rmse (median over genes, divided
        by that of the training mean), warning ("" for none) and trained_on.

    Raises
    ------
    InputError
        As `read_external`, or a file has fewer than `FEWEST_SCORED` of the scored genes.
    """
    read = [(path, sample) for path in folds for sample in _tested(read_fold(path))]
    # twice, as every prediction carries a note on all of them, and together they may not fit into memory
    facts = pd.DataFrame([_facts(read_fold(path), sample, files[sample], scale, scored) for path, sample in read])
    facts.insert(2, "predictor", tool)
    note = note_of(facts, trained_on)
    for fold_path, sample in read:
        fold = read_fold(fold_path)
        expression = read_external(files[sample], fold, sample, scale).expression
        made = {"predictor": tool, "method": tool, "kind": EXTERNAL, "k": 0, "k_used": 0, "seed": seed, "note": note}
        path = output / f"fold{fold.fold}" / f"seed{seed}" / tool / f"{sample}.h5ad"
        write_prediction(path, fold, sample, expression, made)
    return facts.assign(trained_on=trained_on)


def note_of(facts: pd.DataFrame, trained_on: str) -> str:
    """Say in one line what a reader of the scores must know of imported predictions."""
    parts = [
        f"predicted by another tool, {f'trained on: {trained_on}' if trained_on else 'training slides not stated'}"
    ]
    most = facts.loc[facts["n_missing_genes"].idxmax()]
    if most["n_missing_genes"]:
        parts.append(
            f"up to {most['n_missing_genes']} of {most['n_genes'] + most['n_missing_genes']} panel genes, and up to "
            f"{facts['n_scored_missing'].max()} of {facts['n_scored'].max()} in the lists, missing from its files: "
            "predicted as the training mean, which scores 0"
        )
    if n_warned := int(facts["warning"].ne("").sum()):
        parts.append(f"warnings about {n_warned} of {len(facts)} slides in tables/external.md")
    return "; ".join(parts)


def _tested(fold: Fold) -> list[str]:
    return list(dict.fromkeys(fold.sample[fold.rows(TEST)]))


def _facts(fold: Fold, sample: str, path: str | Path, scale: Scale, scored: Scored) -> dict[str, object]:
    """Read a file, and count what of it matches the slide."""
    slide = read_external(path, fold, sample, scale)
    listed = scored(evaluated_genes(fold, sample))
    missing = fold.genes[listed & ~slide.predicted]
    if len(missing) > (1 - FEWEST_SCORED) * listed.sum():
        found = (
            f"{len(missing)} of the {listed.sum()} genes that Table 1 scores on {sample} missing, first {missing[0]!r}"
        )
        raise InputError(path, "var_names", found, "at least half of them, by gene symbol")
    relative = _relative_rmse(fold, sample, slide)
    warning = ""
    if relative > WILD_ERROR:
        warning = (
            f"errors {relative:.1f} times those of the training mean: are the values {scale.units}, in natural "
            "logarithms? Correlations of values in another unit are lower, too, unless the units differ by a factor"
        )
        logger.warning("%s: %s", path, warning)
    n_genes = int(slide.predicted.sum())
    return {
        "cohort": fold.cohort,
        "protocol": fold.protocol,
        "sample": sample,
        "file": str(path),
        "n_spots": len(slide.expression),
        "n_other_spots": slide.n_other_spots,
        "n_genes": n_genes,
        "n_missing_genes": len(fold.genes) - n_genes,
        "n_other_genes": slide.n_other_genes,
        "n_scored": int(listed.sum()),
        "n_scored_missing": len(missing),
        "n_negative": slide.n_negative,
        "relative_rmse": relative,
        "warning": warning,
    }


def _relative_rmse(fold: Fold, sample: str, slide: ExternalSlide) -> float:
    """Divide the median error of the predicted genes by that of their training mean."""
    truth = fold.expression[fold.rows(TEST, sample=sample)].astype(np.float64)
    genes = slide.predicted & ~np.isnan(truth).any(axis=0)
    if not genes.any():
        return float("nan")
    mean = fold.expression[fold.bank].mean(axis=0, dtype=np.float64)
    own, usual = (
        float(np.median(np.sqrt(np.mean((guess - truth)[:, genes] ** 2, axis=0)))) for guess in (slide.expression, mean)
    )
    return own / usual if usual > 0 else float("nan")
