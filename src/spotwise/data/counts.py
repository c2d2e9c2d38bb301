"""Clean the counts of a slide: check every value, drop controls and empty spots, sum duplicated genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.constants import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.data.barcodes import clean_label
from spotwise.data.coordinates import ERROR, check_places, compare_with_obs, on_slide, spot_centres
from spotwise.data.count_values import checked_counts
from spotwise.data.counts_reader import CLEANED, counts_elsewhere
from spotwise.data.measured_features import NO_NAME, Features, classify_features
from spotwise.errors import InputError

IN_TISSUE, ARRAY_POSITION = "in_tissue", ("array_row", "array_col")
FLAGS = dict.fromkeys(("1", "1.0", "true", "t", "yes"), True) | dict.fromkeys(("0", "0.0", "false", "f", "no"), False)
MAX_LISTED = 50
DROPPED_SPOTS_WARNING, COUNTS_WARNING = 0.2, 0.05  # shares of spots and of counts above which qc.json warns


def clean_counts(
    adata: AnnData,
    sample: str,
    slide_size: tuple[int, int] | None,
    min_counts: int,
    source: object,
    outside: str = ERROR,
) -> tuple[AnnData, dict]:
    """Check the counts of one slide and keep its genes and spots.

    Features that are not genes are dropped, see :func:`~spotwise.data.measured_features.classify_features`, then spots
    with fewer than ``min_counts`` counts. Features with the same symbol are summed: they annotate one gene (10x
    references hold a few) and share its reads. HEST's files name the second such feature ``SYMBOL-1``; it is summed too
    if ``SYMBOL`` is present (so ``NKX2-1`` stays).

    Parameters
    ----------
    adata
        As :func:`~spotwise.data.counts_reader.read_counts` returns it. Not modified.
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
        Spots x genes in the file's order: X CSR float32; ``obs`` with ``total_counts`` int64 and, if present,
        ``in_tissue`` and numbers in ``array_row`` and ``array_col``; ``obsm["spatial"]`` float64; ``uns["spatial"]`` if
        present; ``uns["dropped_barcodes"]``.
    qc
        What was dropped and why, ready for JSON.

    Raises
    ------
    InputError
        For empty or repeated barcodes, Ensembl ids instead of symbols, values that are not counts, coordinates that
        are missing, contradictory, shared by two spots or off the slide, and if no gene or no spot remains.
    """
    _check_barcodes(adata, source)
    features = classify_features(adata.var, source)
    counts, doubts = checked_counts(adata, source)
    totals = (counts @ (features.gene >= 0).astype(np.float64)).astype(np.int64)
    obs = _checked_obs(adata, source)
    spatial = spot_centres(adata, source)
    contradictions = compare_with_obs(spatial, adata, source)
    empty = np.asarray(counts.sum(axis=1)).ravel() == 0
    inside = on_slide(spatial, slide_size, adata.obs_names, outside, source, empty)
    kept = inside & (totals >= min_counts)
    if not totals[kept].any():
        expected = f"spots with min_counts={min_counts}{'' if counts.nnz else counts_elsewhere(source)}"
        raise InputError(source, "X", f"at most {totals.max()} counts per spot", expected)
    check_places(spatial, adata, kept, source)
    cleaned = AnnData(
        X=_sum_features(counts[kept], features),
        obs=obs[kept].copy(),
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
        CLEANED: int(adata.uns.get(CLEANED, 0)),
        "n_spots_kept": cleaned.n_obs,
        "n_spots_dropped": len(dropped),
        "n_spots_off_slide": int((~inside).sum()),
        "min_counts": int(min_counts),
        "dropped_spots": dropped[:MAX_LISTED],
        **_feature_qc(features, counts.T @ np.ones(counts.shape[0])),
        "median_counts": float(np.median(totals[kept])),
        "median_genes": float(np.median(np.diff(cleaned.X.indptr))),
    }
    if IN_TISSUE in cleaned.obs:
        known = cleaned.obs[IN_TISSUE].dropna()
        qc["n_spots_kept_tissue_unknown"] = cleaned.n_obs - len(known)
        if len(known):
            qc["n_spots_kept_off_tissue"] = int((~known.astype(bool)).sum())
    qc["warnings"] = [*features.warnings, *doubts, *contradictions, *_warnings(qc)]
    return cleaned, qc


def _checked_obs(adata: AnnData, source: object) -> pd.DataFrame:
    """Return flags and array positions of the spots, as far as there are any."""
    obs = pd.DataFrame(index=adata.obs_names)
    if IN_TISSUE in adata.obs:
        flags = [_flag(value, barcode, source) for barcode, value in adata.obs[IN_TISSUE].items()]
        obs[IN_TISSUE] = pd.array(flags, dtype="boolean") if None in flags else flags
    for column in ARRAY_POSITION:
        if column in adata.obs:
            position = pd.to_numeric(adata.obs[column].astype(object), errors="coerce")
            if position.notna().all():
                obs[column] = position
    return obs


def _flag(value: object, barcode: str, source: object) -> bool | None:
    text = clean_label(value)
    if text in NO_NAME:
        return None
    if text.lower() not in FLAGS:
        found = f"{text!r} at spot {barcode!r}"
        raise InputError(source, f'obs["{IN_TISSUE}"]', found, "1 or 0, true or false, or a missing value")
    return FLAGS[text.lower()]


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


def _sum_features(counts: sparse.csr_matrix, features: Features) -> sparse.csr_matrix:
    """Sum the columns of each gene, CSR float32 (N, G) without stored zeros."""
    columns = np.flatnonzero(features.gene >= 0)
    ones = np.ones(len(columns), dtype=np.float32)
    shape = counts.shape[1], len(features.genes)
    summed = counts @ sparse.csr_matrix((ones, (columns, features.gene[columns])), shape=shape)
    summed.eliminate_zeros()
    summed.sort_indices()
    return summed


def _feature_qc(features: Features, counts: np.ndarray) -> dict:
    """Summarise the features from their ``counts`` (F,) over the slide."""
    of_gene = features.gene[features.gene >= 0]
    is_control, is_typed = features.is_control, (features.types != "") & ~features.is_control
    every = max(counts.sum(), 1)
    return {
        "n_features_in": len(features.names),
        "n_genes_kept": len(features.genes),
        "n_unnamed_dropped": len(features.names) - len(of_gene) - int(is_control.sum() + is_typed.sum()),
        "n_controls_dropped": int(is_control.sum()),
        "controls_dropped": features.names[is_control][:MAX_LISTED].tolist(),
        "control_share_of_counts": float(counts[is_control].sum() / every),
        "other_types_dropped": _by_type(features.types[is_typed], counts[is_typed]),
        "other_share_of_counts": float(counts[is_typed].sum() / every),
        "n_features_merged": len(of_gene) - len(features.genes),
        "genes_merged": [features.genes[gene] for gene in np.flatnonzero(np.bincount(of_gene) > 1)[:MAX_LISTED]],
        "made_unique_share_of_counts": float(counts[features.made_unique].sum() / every),
    }


def _by_type(types: Sequence[str], counts: np.ndarray) -> dict[str, dict]:
    """Count the features of each type and their counts."""
    table = pd.DataFrame({"type": types, "counts": counts}).groupby("type")["counts"].agg(["size", "sum"])
    return {str(kind): {"n_features": int(n), "counts": int(total)} for kind, n, total in table.itertuples()}


def _warnings(qc: Mapping) -> list[str]:
    found = []
    if qc[CLEANED]:
        found.append(f"{qc[CLEANED]} barcodes had blanks around them, or were bytes written as text, and were cleaned")
    below = qc["n_spots_dropped"] - qc["n_spots_off_slide"]
    if below > DROPPED_SPOTS_WARNING * qc["n_spots_in"]:
        found.append(f"{below} of {qc['n_spots_in']} spots have fewer than {qc['min_counts']} counts")
    if qc["n_spots_off_slide"]:
        found.append(f"{qc['n_spots_off_slide']} of {qc['n_spots_in']} spots lie off the slide and were dropped")
    if qc["control_share_of_counts"] > COUNTS_WARNING:
        found.append(f"control features hold {qc['control_share_of_counts']:.1%} of all counts")
    if qc["other_share_of_counts"] > COUNTS_WARNING:
        share, types = qc["other_share_of_counts"], ", ".join(qc["other_types_dropped"])
        found.append(f"features of other types, which were dropped, hold {share:.1%} of all counts: {types}")
    if (share := qc["made_unique_share_of_counts"]) > COUNTS_WARNING:
        found.append(f"features named SYMBOL-1, summed into SYMBOL, hold {share:.1%} of all counts: antibodies?")
    if qc.get("n_spots_kept_off_tissue"):
        found.append(f"{qc['n_spots_kept_off_tissue']} of the kept spots are marked as off the tissue")
    if qc.get("n_spots_kept_tissue_unknown"):
        found.append(f"in_tissue is missing for {qc['n_spots_kept_tissue_unknown']} of the kept spots")
    return found
