"""Clean the counts of a slide: check every value, drop controls and empty spots, sum duplicated genes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.constants import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.data.coordinates import ERROR, check_places, compare_with_obs, on_slide, spot_centres
from spotwise.errors import InputError

# Features that are not genes: Xenium's blanks, negative controls and unused codewords, MERSCOPE's "Blank-1". HEST
# counts them into nb_genes and leaves them in the matrix; 220 of the paper's 500 IDC "genes" are of this kind.
CONTROL_FEATURES = re.compile(
    r"(BLANK|Blank[-_]\d|NegControl|antisense_|UnassignedCodeword|DeprecatedCodeword|Intergenic_Region|GenomicControl)"
)
ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?$")
# AnnData's var_names_make_unique, which HEST applies, renames the second feature of a symbol to SYMBOL-1
MADE_UNIQUE = re.compile(r"(.+)-\d+$")
NO_NAME = {"", "nan", "NaN", "NA", "None"}

KEPT_OBS = ("in_tissue", "array_row", "array_col")
MAX_LISTED = 50
LARGEST_COUNT = 2**24  # float32 represents every whole number up to this one
DROPPED_SPOTS_WARNING, CONTROL_COUNTS_WARNING = 0.2, 0.05  # shares above which qc.json warns


def clean_counts(
    adata: AnnData,
    sample: str,
    slide_size: tuple[int, int] | None,
    min_counts: int,
    source: object,
    outside: str = ERROR,
) -> tuple[AnnData, dict]:
    """Check the counts of one slide and keep its genes and spots.

    Unnamed features and control features are dropped, then spots with fewer than ``min_counts`` counts. Features with
    the same symbol are summed: they annotate one gene (10x references hold a few) and share its reads. HEST's files
    name the second such feature ``SYMBOL-1``; it is summed too if ``SYMBOL`` is present (so ``NKX2-1`` stays).

    Parameters
    ----------
    adata
        Spots x features, raw counts, ``obsm["spatial"]`` (N, 2) spot centres (x, y) in level-0 pixels. Not modified.
    sample, source
        Sample id for ``qc``, and file for error messages.
    slide_size
        Width and height in level-0 pixels. Without it, only negative coordinates count as off the slide.
    min_counts
        Minimum counts of a spot, without control features.
    outside
        ``error`` refuses spots whose centre lies off the slide, ``drop`` drops up to a tenth of all spots, as HEST's
        own code does.

    Returns
    -------
    counts
        Spots x genes in the file's order: X CSR float32; ``obs`` with ``total_counts`` int64 and `KEPT_OBS` if present;
        ``obsm["spatial"]`` float64; ``uns["spatial"]`` if present; ``uns["dropped_barcodes"]``.
    qc
        What was dropped and why, ready for JSON.

    Raises
    ------
    InputError
        For empty or repeated barcodes, Ensembl ids instead of symbols, values that are not counts, coordinates that
        are missing, contradictory, shared by two spots or off the slide, and if no gene or no spot remains.
    """
    _check_barcodes(adata, source)
    spatial = spot_centres(adata, source)
    contradictions = compare_with_obs(spatial, adata, source)
    features = _classify_features(adata, source)
    counts = _checked_counts(adata, source)
    empty = np.asarray(counts.sum(axis=1)).ravel() == 0
    inside = on_slide(spatial, slide_size, adata.obs_names, outside, source, empty)

    totals = (counts @ (features.gene >= 0).astype(np.float64)).astype(np.int64)
    kept = inside & (totals >= min_counts)
    if not totals[kept].any():
        raise InputError(source, "X", f"at most {totals.max()} counts per spot", f"spots with min_counts={min_counts}")
    check_places(spatial, adata, kept, source)
    cleaned = AnnData(
        X=_sum_features(counts[kept], features),
        obs=adata.obs.loc[kept, [column for column in KEPT_OBS if column in adata.obs]].copy(),
        var=pd.DataFrame(index=pd.Index(features.genes, dtype=object)),
        obsm={SPATIAL: spatial[kept]},
        uns={SPATIAL: adata.uns[SPATIAL]} if SPATIAL in adata.uns else {},
    )
    cleaned.obs[TOTAL_COUNTS] = totals[kept]
    cleaned.uns[DROPPED] = adata.obs_names[~kept].to_numpy(dtype=object)

    dropped = [
        {"barcode": str(barcode), TOTAL_COUNTS: int(total)}
        for barcode, total in zip(adata.obs_names[~kept], totals[~kept], strict=True)
    ]
    qc = {
        "sample": sample,
        "n_spots_in": adata.n_obs,
        "n_spots_kept": cleaned.n_obs,
        "n_spots_dropped": len(dropped),
        "n_spots_off_slide": int((~inside).sum()),
        "min_counts": int(min_counts),
        "dropped_spots": dropped[:MAX_LISTED],
        **_feature_qc(features, counts.T @ np.ones(counts.shape[0])),
        "median_counts": float(np.median(totals[kept])),
        "median_genes": float(np.median(np.diff(cleaned.X.indptr))),
    }
    if "in_tissue" in adata.obs:
        qc["n_spots_kept_off_tissue"] = int((~cleaned.obs["in_tissue"].astype(bool)).sum())
    qc["warnings"] = contradictions + _warnings(qc)
    return cleaned, qc


def _check_barcodes(adata: AnnData, source: object) -> None:
    barcodes = adata.obs_names
    if not len(barcodes):
        raise InputError(source, "obs index", "no spot", "one row per spot")
    for row, barcode in enumerate(barcodes):
        if not isinstance(barcode, str) or barcode.strip() in NO_NAME or not barcode.isprintable():
            raise InputError(source, "obs index", f"{barcode!r} in row {row}", "a barcode for every spot")
    if not barcodes.is_unique:
        repeated = barcodes[barcodes.duplicated()][0]
        raise InputError(source, "obs index", f"barcode {repeated!r} more than once", "each barcode once")


def _checked_counts(adata: AnnData, source: object) -> sparse.csr_matrix:
    if adata.X is None:
        raise InputError(source, "X", "nothing", "raw counts, spots x genes")
    if adata.X.dtype.kind not in "biuf":
        raise InputError(source, "X", f"values of type {adata.X.dtype}", "raw counts")
    try:
        if sparse.issparse(adata.X):
            adata.X.check_format()  # a conversion with broken indices would write to foreign memory
        counts = sparse.csr_matrix(adata.X)
    except (TypeError, ValueError) as error:
        raise InputError(source, "X", f"an invalid matrix ({error})", "raw counts, spots x genes") from None
    values = counts.data
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values == np.floor(values))))
    if len(wrong):
        row = np.searchsorted(counts.indptr, wrong[0], side="right") - 1
        spot, feature = adata.obs_names[row], adata.var_names[counts.indices[wrong[0]]]
        found = f"{values[wrong[0]]} at spot {spot!r}, gene {feature!r} ({len(wrong)} such values)"
        raise InputError(source, "X", found, "raw counts: whole numbers, none negative")
    if len(values) and values.max() > LARGEST_COUNT:
        raise InputError(source, "X", f"a count of {values.max():.0f}", f"counts up to {LARGEST_COUNT}")
    counts = counts.astype(np.float32, copy=False)
    if not counts.has_canonical_format:
        counts = counts.copy()
        counts.sum_duplicates()
    return counts


class _Features(NamedTuple):
    """Features of a slide, and the genes that they measure."""

    names: np.ndarray  # (F,) stripped
    gene: np.ndarray  # (F,) index into `genes`; -1 for unnamed features and controls
    is_control: np.ndarray  # (F,) bool
    genes: list[str]  # in order of first appearance


def _classify_features(adata: AnnData, source: object) -> _Features:
    names = np.array([str(name).strip() for name in adata.var_names], dtype=object)
    is_control = np.array([CONTROL_FEATURES.match(name) is not None for name in names], dtype=bool)
    is_gene = ~is_control & [name not in NO_NAME for name in names]
    if not is_gene.any():
        raise InputError(source, "var index", f"no gene among {len(names)} features", "gene symbols")
    _check_symbols(names[is_gene], adata, source)
    symbols = names[is_gene]
    known = set(symbols)
    for index, name in enumerate(symbols):
        suffixed = MADE_UNIQUE.match(name)
        if suffixed and suffixed[1] in known:
            symbols[index] = suffixed[1]
    gene = np.full(len(names), -1)
    gene[is_gene], genes = pd.factorize(symbols)
    return _Features(names, gene, is_control, genes.tolist())


def _check_symbols(names: np.ndarray, adata: AnnData, source: object) -> None:
    """Refuse unprintable names, and Ensembl ids in the majority of genes."""
    for name in names:
        if not name.isprintable():
            raise InputError(source, "var index", repr(name), "names without control characters")
    ids = [name for name in names if ENSEMBL_ID.match(name)]
    if 2 * len(ids) <= len(names):
        return
    columns = [column for column in adata.var.columns if "symbol" in column.lower() or "name" in column.lower()]
    where = f"var[{columns[0]!r}]" if columns else "an Ensembl annotation"
    found = f"{len(ids)} of {len(names)} names that are Ensembl ids, first {ids[0]}"
    raise InputError(source, "var index", found, f"gene symbols: set adata.var_names from {where} and save the file")


def _sum_features(counts: sparse.csr_matrix, features: _Features) -> sparse.csr_matrix:
    """Sum the columns of each gene, CSR float32 (N, G) without stored zeros."""
    columns = np.flatnonzero(features.gene >= 0)
    ones = np.ones(len(columns), dtype=np.float32)
    shape = counts.shape[1], len(features.genes)
    summed = counts @ sparse.csr_matrix((ones, (columns, features.gene[columns])), shape=shape)
    summed.eliminate_zeros()
    summed.sort_indices()
    return summed


def _feature_qc(features: _Features, counts: np.ndarray) -> dict:
    """Summarise the features from their ``counts`` (F,) over the slide."""
    of_gene, n_controls = features.gene[features.gene >= 0], int(features.is_control.sum())
    return {
        "n_features_in": len(features.names),
        "n_genes_kept": len(features.genes),
        "n_unnamed_dropped": len(features.names) - len(of_gene) - n_controls,
        "n_controls_dropped": n_controls,
        "controls_dropped": features.names[features.is_control][:MAX_LISTED].tolist(),
        "control_share_of_counts": float(counts[features.is_control].sum() / max(counts.sum(), 1)),
        "n_features_merged": len(of_gene) - len(features.genes),
        "genes_merged": [features.genes[gene] for gene in np.flatnonzero(np.bincount(of_gene) > 1)[:MAX_LISTED]],
    }


def _warnings(qc: Mapping) -> list[str]:
    found = []
    below = qc["n_spots_dropped"] - qc["n_spots_off_slide"]
    if below > DROPPED_SPOTS_WARNING * qc["n_spots_in"]:
        found.append(f"{below} of {qc['n_spots_in']} spots have fewer than {qc['min_counts']} counts")
    if qc["n_spots_off_slide"]:
        found.append(f"{qc['n_spots_off_slide']} of {qc['n_spots_in']} spots lie off the slide and were dropped")
    if qc["control_share_of_counts"] > CONTROL_COUNTS_WARNING:
        found.append(f"control features hold {qc['control_share_of_counts']:.1%} of all counts")
    if qc.get("n_spots_kept_off_tissue"):
        found.append(f"{qc['n_spots_kept_off_tissue']} of the kept spots are marked as off the tissue")
    return found
