"""Checks that the values of a matrix are raw counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.constants import TOTAL_COUNTS
from spotwise.data.counts_reader import counts_elsewhere
from spotwise.errors import InputError

LARGEST_COUNT = 2**24  # float32 represents every whole number up to this one
# Below these, values of a coarser type are exact; above, they are multiples of 2
EXACT_IN_HALF_PRECISION = {"float16": 2**11, "bfloat16": 2**8}
MIN_LARGE_VALUES = 30  # all even by chance with probability 1e-9
BINARY_SURPRISE = 20  # expected number of counts of 2 or more among values that are all equal
MIN_SPOTS, MIN_TOTAL = 20, 100  # to judge how totals vary
ROUNDED = 1 / 16  # variance of totals over their mean, which is 1 for Poisson counts; by chance with probability 1e-9
OTHER_TOTALS = 0.5  # share of spots above which totals in obs are of other counts
EQUAL_TOTALS = 0.15  # coefficient of variation; on real slides it is .3 and more


def checked_counts(adata: AnnData, source: object) -> tuple[sparse.csr_matrix, list[str]]:
    """Return the counts (N, F) CSR float32, and warnings about values that look processed.

    Raises
    ------
    InputError
        X holds anything but whole numbers from 0 to `LARGEST_COUNT`, is binarised, or was scaled to equal totals and
        rounded. The message names a layer, or ``raw``, that does hold counts.
    """
    if adata.X is None:
        raise InputError(source, "X", "nothing", f"raw counts, spots x genes{counts_elsewhere(source)}")
    if adata.X.dtype.kind not in "biuf":
        raise InputError(source, "X", f"values of type {adata.X.dtype}", "raw counts")
    try:
        if sparse.issparse(adata.X):
            adata.X.check_format()  # a conversion with broken indices would write to foreign memory
        is_half = adata.X.dtype == np.float16  # which scipy does not know
        counts = sparse.csr_matrix(adata.X.astype(np.float32) if is_half else adata.X)
    except (TypeError, ValueError) as error:
        raise InputError(source, "X", f"an invalid matrix ({error})", "raw counts, spots x genes") from None
    _check_whole(counts, adata, source)
    counts = counts.astype(np.float32, copy=False)
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    if reason := _binarised(counts) or _scaled_to_one_total(counts):
        raise InputError(source, "X", reason, f"raw counts{counts_elsewhere(source)}")
    doubts = [f"X: {warning}; are these raw counts?" for warning in _doubts(counts, adata.X.dtype)]
    return counts, doubts + _differing_totals(counts, adata)


def _differing_totals(counts: sparse.csr_matrix, adata: AnnData) -> list[str]:
    """Compare the spots' totals with those that scanpy left in ``obs``, of which few genes or other rows differ."""
    if TOTAL_COUNTS not in adata.obs:
        return []
    stated = pd.to_numeric(adata.obs[TOTAL_COUNTS], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(stated)
    n_other = int((np.abs(counts.sum(axis=1).A1 - stated)[known] > 1).sum())
    if n_other <= OTHER_TOTALS * known.sum():
        return []
    reasons = "genes left out, or rows in another order?"
    return [f'X: totals of {n_other} of {known.sum()} spots differ from obs["{TOTAL_COUNTS}"]: {reasons}']


def _check_whole(counts: sparse.csr_matrix, adata: AnnData, source: object) -> None:
    values = counts.data
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values == np.floor(values))))
    if len(wrong):
        row = np.searchsorted(counts.indptr, wrong[0], side="right") - 1
        spot, feature = adata.obs_names[row], adata.var_names[counts.indices[wrong[0]]]
        found = f"{values[wrong[0]]} at spot {spot!r}, gene {feature!r} ({len(wrong)} such values)"
        expected = f"raw counts: whole numbers, none negative{counts_elsewhere(source)}"
        raise InputError(source, "X", found, expected)
    if len(values) and values.max() > LARGEST_COUNT:
        raise InputError(source, "X", f"a count of {values.max():.0f}", f"counts up to {LARGEST_COUNT}")


def _binarised(counts: sparse.csr_matrix) -> str | None:
    """Recognise a matrix of one value where chance would have given others."""
    values = counts.data[counts.data > 0]
    if not len(values) or values.min() < values.max():
        return None
    # Poisson counts of the same density: the rate of 2 or more is at least half the square of that of 1
    expected = len(values) ** 2 / np.prod(counts.shape, dtype=float) / 2
    return f"no value besides 0 and {values[0]:g} (binarised?)" if expected > BINARY_SURPRISE else None


def _judged_totals(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the totals of the spots, none where they are too few or too small to judge."""
    totals = counts @ np.ones(counts.shape[1])  # in float64, which is exact
    totals = totals[totals > 0]
    return totals if len(totals) >= MIN_SPOTS and totals.mean() >= MIN_TOTAL else totals[:0]


def _scaled_to_one_total(counts: sparse.csr_matrix) -> str | None:
    """Recognise totals that differ far less than those of spots of one depth would by chance."""
    totals = _judged_totals(counts)
    if not len(totals) or totals.min() == totals.max() or totals.var() > ROUNDED * totals.mean():
        return None
    return f"{totals.min():.0f} to {totals.max():.0f} counts in every spot (normalised and rounded?)"


def _doubts(counts: sparse.csr_matrix, dtype: np.dtype) -> list[str]:
    values, totals, doubts = counts.data, _judged_totals(counts), []
    if dtype.kind in "iu" and (values == np.iinfo(dtype).max).sum() > 1:
        doubts.append(
            f"{(values == np.iinfo(dtype).max).sum()} values are the largest of {dtype}, which may cut off others"
        )
    for name, exact in EXACT_IN_HALF_PRECISION.items():
        large = values[values > exact]
        if (dtype == name and len(large)) or (len(large) >= MIN_LARGE_VALUES and not (large % 2).any()):
            doubts.append(f"{len(large)} values above {exact} are rounded, as {name} leaves them")
            break
    variation = totals.std() / totals.mean() if len(totals) else EQUAL_TOTALS
    # Poisson counts of spots of one depth vary as little
    if variation < EQUAL_TOTALS and not 1 / 4 < totals.var() / totals.mean() < 2:
        doubts.append(f"totals of spots differ by {variation:.1%}, as if normalised or downsampled")
    return doubts
