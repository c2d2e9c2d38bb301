"""Prediction files and their scores: correlation and error per gene across the spots of one test slide."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spotwise.constants import OBSERVED, PROVENANCE, SPATIAL
from spotwise.errors import InputError
from spotwise.runtime.files import atomic

if TYPE_CHECKING:
    from anndata import AnnData

# what a prediction is: of a method that sees the image, or of a control that stands beside it
METHOD, CONTROL = "method", "control"

# uns["spotwise"] of a prediction and the leading columns of its scores
RUN_FIELDS = {
    "cohort": str,
    "protocol": str,
    "predictor": str,
    "method": str,
    "kind": str,
    "k": int,  # retrieved spots asked for; 0 where nothing is retrieved
    "k_used": int,  # ... and got: a bank may hold fewer
    "fold": int,
    "seed": int,
    "sample": str,
    "note": str,
}
# var of a prediction; the reference statistics rank the genes and come from the slides that the protocol allows
GENE_FIELDS = ("is_marker", "is_measured", "reference_mean", "reference_var")
SCORE_COLUMNS = (
    *RUN_FIELDS,
    "gene",
    "pcc",
    "rmse",
    "spearman",
    "explained_variance",
    "ssim",
    "moran_observed",
    "moran_predicted",
    "observed_mean",
    "observed_var",
    "predicted_mean",
    "predicted_var",
    "rank_mean",
    "rank_var",
    "is_marker",
    "is_measured",
    "is_constant",
    "n_spots",
)
# one prediction file is one value of all of these
FILE_KEYS = ["cohort", "protocol", "predictor", "fold", "seed", "sample"]

# genes worked on at once: bounds a float64 copy to about 50 MB on a slide of 25,000 spots
GENES_PER_BLOCK = 256


def gene_blocks(n_genes: int) -> Iterator[slice]:
    """Slices that cover ``n_genes`` columns, `GENES_PER_BLOCK` at a time."""
    return (slice(start, start + GENES_PER_BLOCK) for start in range(0, n_genes, GENES_PER_BLOCK))


def pearson_per_gene(predicted: np.ndarray, observed: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Pearson correlation of every gene across spots.

    Two passes in float64: means first, then sums over centred values, so that a large offset costs no digits.

    A gene is constant when its largest value *equals* its smallest, in the prediction or in the truth. A threshold on
    the variance would not do: the mean of N equal numbers is rarely that number in floating point, so centring leaves
    dust of one sign and any size, which correlates with anything; and a real gene may vary less than any threshold.

    Parameters
    ----------
    predicted, observed
        Expression, spots x genes (N, G), any float type; finite.
    threads
        Blocks of genes are divided among so many; each gene's value does not depend on it.

    Returns
    -------
    pcc
        (G,) float64 in [-1, 1]; 0.0 for a constant gene, as the authors of CMRCNet score it (released code, inference).
    is_constant
        (G,) bool: the zeros that are no correlation.

    Raises
    ------
    ValueError
        Shapes differ, are not two-dimensional or hold no spot, or a value is not finite.
    """
    predicted, observed = np.asarray(predicted), np.asarray(observed)
    if predicted.shape != observed.shape or predicted.ndim != 2:
        raise ValueError(f"predicted {predicted.shape} and observed {observed.shape} must be one shape: spots x genes")
    if not len(predicted):
        raise ValueError("no spots to correlate")
    n_genes = predicted.shape[1]
    pcc, is_constant = np.zeros(n_genes), np.zeros(n_genes, dtype=bool)

    def correlate(genes: slice) -> None:
        p, p_constant = unit_columns(predicted[:, genes], "predicted")
        o, o_constant = unit_columns(observed[:, genes], "observed")
        is_constant[genes] = p_constant | o_constant
        pcc[genes] = np.where(is_constant[genes], 0.0, np.clip(np.einsum("ng,ng->g", p, o), -1.0, 1.0))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(correlate, gene_blocks(n_genes)))
    return pcc, is_constant


def spearman_per_gene(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Spearman correlation of every gene across spots: Pearson's between ranks, where equal values share their mean.

    Parameters
    ----------
    predicted, observed
        Expression, spots x genes (N, G); finite.

    Returns
    -------
    ndarray
        (G,) float64 in [-1, 1]; 0.0 for a constant gene.
    """

    def ranks(values: np.ndarray) -> np.ndarray:
        return pd.DataFrame(values).rank().to_numpy()

    spearman = np.zeros(observed.shape[1])
    for genes in gene_blocks(len(spearman)):
        spearman[genes], _ = pearson_per_gene(ranks(predicted[:, genes]), ranks(observed[:, genes]))
    return spearman


def explained_variance_per_gene(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Share of every gene's variance that the prediction explains: 1 - Var(observed - predicted) / Var(observed).

    Unlike the squared correlation it asks for the right contrast: a prediction that varies too much has less than 0. A
    wrong level costs nothing; that is in the RMSE.

    Parameters
    ----------
    predicted, observed
        Expression, spots x genes (N, G).

    Returns
    -------
    ndarray
        (G,) float64, at most 1; 0.0 where the truth is constant, and for a constant prediction.
    """
    explained = np.zeros(observed.shape[1])
    for genes in gene_blocks(len(explained)):
        truth = observed[:, genes].astype(np.float64)
        varies = np.ptp(truth, axis=0) > 0
        residual = np.var(truth - predicted[:, genes], axis=0)
        explained[genes] = np.where(varies, 1 - residual / np.where(varies, np.var(truth, axis=0), 1.0), 0.0)
    return explained


def unit_columns(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns of ``values`` (N, G) centred and scaled to length 1 (float64), and which of them (G,) are constant.

    A constant column has no direction: what is returned for it means nothing.

    Raises
    ------
    ValueError
        A value is not finite; the message calls the values ``name``.
    """
    values = values.astype(np.float64)
    highest, lowest = values.max(axis=0), values.min(axis=0)
    if not (np.isfinite(highest).all() and np.isfinite(lowest).all()):  # either is NaN where any value is
        raise ValueError(f"{name} holds values that are not finite")
    is_constant = highest == lowest
    mean = values.mean(axis=0)
    values -= mean
    # by the largest value first: squares of very small numbers would vanish
    values /= np.where(is_constant, 1.0, np.maximum(highest - mean, mean - lowest))
    values /= np.where(is_constant, 1.0, np.sqrt(np.einsum("ng,ng->g", values, values)))
    return values, is_constant


def read_prediction(path: str | os.PathLike) -> AnnData:
    """Read one prediction file and check it against its contract.

    Returns
    -------
    AnnData
        X predicted and layers["observed"] measured log-normalised expression (spots x panel, dense float32),
        obsm["spatial"] (N, 2) spot centres in level-0 pixels, var with `GENE_FIELDS`, uns["spotwise"] with `RUN_FIELDS`
        as plain Python values.

    Raises
    ------
    InputError
        A part is missing, or values that must be finite are not.
    """
    from anndata import read_h5ad  # a second to import: not for those who only correlate arrays

    prediction = read_h5ad(path)
    check_prediction(prediction, path)
    return prediction


def check_prediction(prediction: AnnData, source: object) -> None:
    """Raise `InputError`, naming ``source``, unless ``prediction`` keeps the contract told in `read_prediction`."""
    run = prediction.uns.get(PROVENANCE, {})
    for place, required, present in (
        (f"uns[{PROVENANCE!r}]", RUN_FIELDS, run),
        ("var", GENE_FIELDS, prediction.var.columns),
        ("layers", (OBSERVED,), prediction.layers),
        ("obsm", (SPATIAL,), prediction.obsm),
    ):
        if missing := [name for name in required if name not in present]:
            raise InputError(source, place, sorted(present), "also " + ", ".join(missing))
    prediction.uns[PROVENANCE] = {**run, **{name: kind(run[name]) for name, kind in RUN_FIELDS.items()}}

    measured = _measured(prediction)
    for place, values in (("X", prediction.X), (f"layers[{OBSERVED!r}]", prediction.layers[OBSERVED][:, measured])):
        if not np.isfinite(values).all():
            raise InputError(source, place, "values that are not finite", "log-normalised expression")
    for field in ("reference_mean", "reference_var"):
        if not np.isfinite(prediction.var[field].to_numpy(float)[measured]).all():
            raise InputError(source, f"var[{field!r}]", "values that are not finite", "a number for each measured gene")


def read_slide(paths: Mapping[str, str | os.PathLike]) -> dict[str, AnnData]:
    """Read several predictors' predictions of one slide, with spots and genes in the order of the first.

    Parameters
    ----------
    paths
        Predictor -> prediction file; same test slide, same fold, so the same spots and panel.

    Raises
    ------
    InputError
        The files differ in slide, spots or genes.
    """
    slide: dict[str, AnnData] = {}
    for predictor, path in paths.items():
        prediction = read_prediction(path)
        first = next(iter(slide.values()), prediction)
        found, expected = prediction.uns[PROVENANCE]["sample"], first.uns[PROVENANCE]["sample"]
        if found != expected:
            raise InputError(path, "sample", found, f"{expected}, the slide of the other predictions")
        for axis, names, others in (
            ("spots", prediction.obs_names, first.obs_names),
            ("genes", prediction.var_names, first.var_names),
        ):
            if set(names) != set(others):
                expected = f"the {len(others)} {axis} of the other predictions"
                raise InputError(path, axis, f"{len(names)} {axis}", expected)
        same = prediction.obs_names.equals(first.obs_names) and prediction.var_names.equals(first.var_names)
        slide[predictor] = prediction if same else prediction[first.obs_names, first.var_names]
    return slide


def gene_ranks(var: pd.DataFrame) -> pd.DataFrame:
    """Rank a panel's measured genes by the reference mean (HEG) and variance (HVG).

    Parameters
    ----------
    var
        A prediction's genes with `GENE_FIELDS`. Under the `paper` protocol the reference is the test slide's own truth,
        under `patient` the training slides; the prediction itself has no say.

    Returns
    -------
    DataFrame
        Indexed like ``var``: rank_mean and rank_var, 1 for the highest, ties by gene name, 0 for a gene not measured.
    """
    measured = np.flatnonzero(var["is_measured"].to_numpy(bool))
    names = var.index.to_numpy(str)[measured]
    ranks = pd.DataFrame(0, index=var.index, columns=["rank_mean", "rank_var"])
    for rank, reference in (("rank_mean", "reference_mean"), ("rank_var", "reference_var")):
        order = np.lexsort((names, -var[reference].to_numpy(float)[measured]))
        ranks.iloc[measured[order], ranks.columns.get_loc(rank)] = np.arange(1, len(order) + 1)
    return ranks


def score_prediction(prediction: AnnData) -> pd.DataFrame:
    """Score one prediction: one row per gene of the panel.

    Parameters
    ----------
    prediction
        As returned by `read_prediction`, or checked by `check_prediction`.

    Returns
    -------
    DataFrame
        `SCORE_COLUMNS`. Variances are those of the population (divided by N, as in the released code). A gene that the
        slide does not measure has NaN for everything that needs the truth, and rank 0.
    """
    from spotwise.evaluation.measures import SPATIAL_MEASURES, spatial_measures  # not for those who only read scores

    measured = _measured(prediction)
    predicted = np.asarray(prediction.X)
    observed = np.asarray(prediction.layers[OBSERVED])[:, measured]
    of_measured = predicted[:, measured]
    with_truth = pd.DataFrame(index=prediction.var_names[measured])
    with_truth["pcc"], with_truth["is_constant"] = pearson_per_gene(of_measured, observed)
    with_truth["rmse"] = np.sqrt(np.mean((of_measured - observed) ** 2, axis=0, dtype=np.float64))
    with_truth["spearman"] = spearman_per_gene(of_measured, observed)
    with_truth["explained_variance"] = explained_variance_per_gene(of_measured, observed)
    with_truth[list(SPATIAL_MEASURES)] = spatial_measures(of_measured, observed, prediction.obsm[SPATIAL]).to_numpy()
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


def _measured(prediction: AnnData) -> np.ndarray:
    return prediction.var["is_measured"].to_numpy(bool)


def write_scores(scores: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table of scores as Parquet, atomically."""
    with atomic(path) as temporary:
        scores.to_parquet(temporary, index=False)


def read_scores(paths: Iterable[str | os.PathLike], columns: Sequence[str] = SCORE_COLUMNS) -> pd.DataFrame:
    """Read score files into one table of ``columns``; rows in the order of ``paths``.

    Raises
    ------
    InputError
        A file lacks one of ``columns``.
    """
    tables = []
    for path in paths:
        table = pd.read_parquet(path)
        if missing := [column for column in columns if column not in table]:
            raise InputError(path, "columns", list(table.columns), "also " + ", ".join(missing))
        tables.append(table[list(columns)])
    return pd.concat(tables, ignore_index=True)
