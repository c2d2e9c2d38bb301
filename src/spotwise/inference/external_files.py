"""Prediction files of other tools: read, matched to a test slide by name, and brought to log-normalised expression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse

from spotwise.constants import TEST
from spotwise.data.barcodes import clean_labels
from spotwise.data.folds import Fold
from spotwise.data.genes import depth_target
from spotwise.errors import InputError, SetupError, first_line
from spotwise.runtime.input_files import open_input

EXPECTED = "an .h5ad of predictions, spots x genes"
LOG_NORMALISED, LOG_COUNTS, COUNTS = "log_normalised", "log_counts", "counts"
SAME_TOTAL = 1e-3  # relative difference of the totals of spots below which they were normalised
LARGEST_LOG = 20.0  # log(1 + 5e8), which no spot reaches


@dataclass(frozen=True)
class Scale:
    """What the values of a file are.

    Attributes
    ----------
    units
        `LOG_NORMALISED`, `LOG_COUNTS` or `COUNTS`.
    target_sum
        Counts per spot that log-normalised values refer to, ``None`` to take them as they are.
    run_target_sum
        Counts per spot of the run, ``None`` for the median of each slide.
    """

    units: str
    target_sum: float | None = None
    run_target_sum: float | None = None


@dataclass(frozen=True)
class ExternalSlide:
    """Prediction of a test slide by another tool.

    Attributes
    ----------
    expression
        (N, G) float32, log-normalised, spots and genes as in the fold. Genes without a prediction have their training
        mean, which is constant and scores 0.
    predicted
        (G,) whether the file has the gene.
    n_other_spots, n_other_genes
        Spots of the file that are not tested, and genes that are not in the panel.
    n_negative
        Values below 0 that were set to 0, because they stand for counts.
    """

    expression: np.ndarray
    predicted: np.ndarray
    n_other_spots: int
    n_other_genes: int
    n_negative: int


def read_external(path: str | Path, fold: Fold, sample: str, scale: Scale) -> ExternalSlide:
    """Read the prediction of one test slide.

    Spots are matched by barcode, genes by symbol. Spots that are not tested and genes outside the panel are left out;
    the latter still count for the total of a spot where counts are normalised.

    Raises
    ------
    InputError
        The file cannot be read, lacks a test spot, has a spot or a gene of the panel twice, or holds values that are
        not finite or not of its units.
    """
    values, barcodes, symbols = _read(path)
    wanted = fold.barcode[fold.rows(TEST, sample=sample)]
    rows = _spots(path, barcodes, wanted, sample)
    column, predicted = _genes(path, symbols, fold.genes)
    values = values[rows]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    _check_values(path, values, wanted, symbols, scale)
    found, n_negative = _log_normalised(path, values.astype(np.float64), column[predicted], fold, scale)
    expression = np.tile(fold.expression[fold.bank].mean(axis=0, dtype=np.float64), (len(wanted), 1))
    expression[:, predicted] = found
    return ExternalSlide(
        expression=expression.astype(np.float32),
        predicted=predicted,
        n_other_spots=len(barcodes) - len(wanted),
        n_other_genes=len(symbols) - int(predicted.sum()),
        n_negative=n_negative,
    )


def _read(path: str | Path) -> tuple[np.ndarray | sparse.csr_matrix, list[str], list[str]]:
    """Read X and the names of spots and genes, without any other part of the file."""
    with open_input(path, EXPECTED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are not unique, which are checked
        if missing := [part for part in ("X", "obs", "var") if part not in file]:
            raise InputError(path, missing[0], "nothing", EXPECTED)
        try:
            values = read_elem(file["X"])
            names = [clean_labels(read_elem(file[part]).index) for part in ("obs", "var")]
        except (InputError, SetupError, MemoryError, OSError, RuntimeError):
            raise
        except Exception as error:  # anndata raises KeyError, ValueError and others for a damaged file
            raise InputError(path, "file", f"contents that cannot be read ({first_line(error)})", EXPECTED) from None
    if getattr(values, "ndim", 0) != 2 or values.dtype.kind not in "biuf":
        raise InputError(path, "X", getattr(values, "dtype", "nothing"), "numbers, spots x genes")
    if values.shape != tuple(map(len, names)):
        raise InputError(path, "X", f"{values.shape[0]} x {values.shape[1]}", f"{len(names[0])} x {len(names[1])}")
    return (sparse.csr_matrix(values) if sparse.issparse(values) else values), *names


def _spots(path: str | Path, barcodes: list[str], wanted: np.ndarray, sample: str) -> np.ndarray:
    """Find the row of each test spot."""
    index = pd.Index(barcodes)
    if index.has_duplicates:
        twice = index[index.duplicated()]
        raise InputError(path, "obs_names", f"{twice[0]!r} more than once ({len(twice)} such spots)", "each spot once")
    rows = index.get_indexer(wanted)
    if (missing := wanted[rows < 0]).size:
        own = f"; its own are called {barcodes[0]!r} and so on" if barcodes and missing.size == wanted.size else ""
        found = f"{missing.size} of {wanted.size} test spots of {sample} missing, first {missing[0]!r}{own}"
        raise InputError(path, "obs_names", found, "every test spot, as rivals are scored on all of them")
    return rows


def _genes(path: str | Path, symbols: list[str], panel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the column of each gene of the panel, and which the file has."""
    index = pd.Index(symbols)
    twice = index[index.duplicated() & index.isin(panel)]
    if len(twice):
        raise InputError(path, "var_names", f"{twice[0]!r} more than once ({len(twice)} such genes)", "each gene once")
    first = index[~index.duplicated()]
    column = np.flatnonzero(~index.duplicated())[first.get_indexer(panel)]
    predicted = first.get_indexer(panel) >= 0
    if not predicted.any():
        ids = "gene symbols, not Ensembl ids" if symbols and symbols[0].startswith("ENS") else "gene symbols"
        found = f"none of the {len(panel)} genes of the panel, but {symbols[0]!r} and so on" if symbols else "no gene"
        raise InputError(path, "var_names", found, ids)
    return column, predicted


def _check_values(path: str | Path, values: np.ndarray, spots: np.ndarray, genes: list[str], scale: Scale) -> None:
    """Check that the values (N, F) of the test spots are finite and can be of their units."""
    if not np.isfinite(values).all():
        wrong = np.argwhere(~np.isfinite(values))
        spot, gene = wrong[0]
        found = f"{values[spot, gene]} at spot {spots[spot]!r}, gene {genes[gene]!r} ({len(wrong)} such values)"
        raise InputError(path, "X", found, "finite numbers")
    if scale.units == COUNTS and values.min() < 0:
        raise InputError(path, "X", f"{values.min():g} with units: counts", "values of at least 0, or units of logs")
    if scale.units != COUNTS and values.max() > LARGEST_LOG:
        expected = f"logs up to {LARGEST_LOG:g}, or units: counts"
        raise InputError(path, "X", f"{values.max():g} with units: {scale.units}", expected)


def _log_normalised(
    path: str | Path, values: np.ndarray, columns: np.ndarray, fold: Fold, scale: Scale
) -> tuple[np.ndarray, int]:
    """Bring the values (N, F) of some columns to log-normalised expression, and count those set to 0."""
    if scale.units == LOG_NORMALISED:
        values = values[:, columns]
        if scale.target_sum is None:
            return values, 0
        counts = np.expm1(np.maximum(values, 0)) * (_run_target(fold, scale) / scale.target_sum)
        return np.log1p(counts), int((values < 0).sum())
    n_negative = int((values < 0).sum())
    counts = values if scale.units == COUNTS else np.expm1(np.maximum(values, 0))
    totals = counts.sum(axis=1, keepdims=True)
    if not totals.any():
        raise InputError(path, "X", "no value above 0", "counts")
    if np.ptp(totals) < SAME_TOTAL * totals.mean() and np.ptp(counts, axis=0).any():
        expected = f"counts; units: log_normalised with target_sum: {totals.mean():g} for log(1 + x) of such values"
        raise InputError(path, "X", f"{totals.mean():g} in every spot with units: {scale.units}", expected)
    target = depth_target(counts, scale.run_target_sum)
    normalised = np.divide(counts[:, columns], totals, out=np.zeros((len(counts), len(columns))), where=totals > 0)
    return np.log1p(normalised * target), n_negative


def _run_target(fold: Fold, scale: Scale) -> float:
    """Return the counts per spot of the run; the median of a slide is taken over the training slides."""
    if scale.run_target_sum is not None:
        return float(scale.run_target_sum)
    bank = fold.bank
    depths = pd.Series(fold.total_counts[bank]).groupby(fold.sample[bank])
    return float(depths.median().mean())
