"""Counts of a slide: cleaned, normalised, and the panel of genes that a fold works on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.contracts import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.errors import InputError

logger = logging.getLogger(__name__)

# Features that are no genes: Xenium's blanks, negative controls and unused codewords, MERSCOPE's "Blank-1". HEST counts
# them into nb_genes and leaves them in the matrix; 220 of the paper's 500 IDC "genes" are of this kind.
CONTROL_FEATURES = re.compile(
    r"(BLANK|Blank[-_]\d|NegControl|antisense_|UnassignedCodeword|DeprecatedCodeword|Intergenic_Region|GenomicControl)"
)
ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?$")
# AnnData's var_names_make_unique, which HEST applies, writes a symbol's second feature as SYMBOL-1
MADE_UNIQUE = re.compile(r"(.+)-\d+$")
NO_NAME = {"", "nan", "NaN", "NA", "None"}

KEPT_OBS = ("in_tissue", "array_row", "array_col")
MAX_LISTED = 50
# float32, in which counts are computed with, holds every whole number up to here
LARGEST_COUNT = 2**24
# what to do with spots off the slide, and the share of them from which dropping would only hide a wrong scale
REFUSE, DROP = "refuse", "drop"
MOST_OUTSIDE = 0.1
VALUES_AT_ONCE = 2**20  # of a sparse matrix: bounds what a step holds beside it
# above these shares, qc.json warns
DROPPED_SPOTS_WARNING = 0.2
CONTROL_COUNTS_WARNING = 0.05


def clean_counts(
    adata: AnnData,
    sample: str,
    slide_size: tuple[int, int] | None,
    min_counts: int,
    source: object,
    outside: str = REFUSE,
) -> tuple[AnnData, dict]:
    """Check the counts of one slide and keep what an analysis of genes in spots can use.

    Features without a name and control features go, then spots with fewer than ``min_counts`` counts. Features of
    one symbol are summed: they are annotations of the same gene (10x references hold a few), its reads are split
    between them, and keeping the first would lose counts. HEST's files carry the second one under an invented
    ``SYMBOL-1``; it is summed too where ``SYMBOL`` is there (so ``NKX2-1`` stays what it is).

    Parameters
    ----------
    adata
        Spots x features, raw counts, dense or sparse, ``obsm["spatial"]`` (N, 2) = spot centres (x, y) in level-0
        pixels. Not modified.
    sample
        Its id, for ``qc``.
    slide_size
        Width and height of the slide in level-0 pixels; ``None`` where no slide is at hand, then only negative
        coordinates count as outside.
    min_counts
        Fewest counts of a spot, control features left out.
    source
        The file that error messages name.
    outside
        What becomes of spots whose centre lies off the slide: ``refuse`` stops, ``drop`` drops and reports them, as
        HEST's own code does, as long as they are no more than a tenth.

    Returns
    -------
    counts
        Spots x genes in the file's order: X CSR float32 counts; ``obs["total_counts"]`` int64; of the other columns of
        obs ``in_tissue``, ``array_row`` and ``array_col`` where there; ``obsm["spatial"]`` float64; ``uns["spatial"]``
        where there; ``uns["dropped_barcodes"]`` the barcodes of all spots that went.
    qc
        What went and why, ready for JSON.

    Raises
    ------
    InputError
        For barcodes that are empty or not unique, Ensembl ids instead of symbols, values that are no counts,
        coordinates that are missing, all the same or off the slide, and where no gene or no spot is left.
    """
    _check_barcodes(adata, source)
    counts = _checked_counts(adata, source)
    spatial = _checked_spatial(adata, source)
    inside = _on_slide(spatial, slide_size, adata.obs_names, outside, source)
    gene_of_feature, genes, feature_qc = _genes_of_features(counts, adata, source)

    totals = _totals(counts, gene_of_feature >= 0).astype(np.int64)
    kept = inside & (totals >= min_counts)
    if not totals[kept].any():
        raise InputError(source, "X", f"at most {totals.max()} counts per spot", f"spots with min_counts={min_counts}")
    cleaned = AnnData(
        X=_genes_only(counts, kept, gene_of_feature, len(genes)),
        obs=adata.obs.loc[kept, [column for column in KEPT_OBS if column in adata.obs]].copy(),
        var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
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
        **feature_qc,
        "median_counts": float(np.median(totals[kept])),
        "median_genes": float(np.median(np.diff(cleaned.X.indptr))),
    }
    if "in_tissue" in adata.obs:
        qc["n_spots_kept_off_tissue"] = int((~cleaned.obs["in_tissue"].astype(bool)).sum())
    qc["warnings"] = _warnings(qc)
    return cleaned, qc


def _check_barcodes(adata: AnnData, source: object) -> None:
    barcodes = adata.obs_names
    if not len(barcodes):
        raise InputError(source, "obs index", "no spot", "one row per spot")
    for row, barcode in enumerate(barcodes):
        if not isinstance(barcode, str) or barcode.strip() in NO_NAME or not barcode.isprintable():
            raise InputError(source, "obs index", f"{barcode!r} in row {row}", "a barcode for every spot")
    if not barcodes.is_unique:
        twice = barcodes[barcodes.duplicated()][0]
        raise InputError(source, "obs index", f"barcode {twice!r} more than once", "each barcode once")


def _checked_counts(adata: AnnData, source: object) -> sparse.csr_matrix:
    """X as CSR, once every value of it is seen to be a count."""
    if adata.X is None:
        raise InputError(source, "X", "nothing", "raw counts, spots x genes")
    try:
        counts = sparse.csr_matrix(adata.X)
        counts.check_format()  # a stored index beyond the genes would be read from memory that is not ours
    except (TypeError, ValueError) as error:
        raise InputError(source, "X", f"no matrix ({error})", "raw counts, spots x genes") from None
    counts.sum_duplicates()
    values = counts.data
    if values.dtype.kind not in "biuf":
        raise InputError(source, "X", f"values of type {values.dtype}", "raw counts")
    if not np.issubdtype(values.dtype, np.unsignedinteger):
        blocks = (slice(start, start + VALUES_AT_ONCE) for start in range(0, len(values), VALUES_AT_ONCE))
        wrong = np.concatenate([[], *(block.start + np.flatnonzero(_no_count(values[block])) for block in blocks)])
        if len(wrong):
            at = int(wrong[0])
            barcode = adata.obs_names[np.searchsorted(counts.indptr, at, side="right") - 1]
            feature = adata.var_names[counts.indices[at]]
            found = f"{values[at]} at spot {barcode!r}, gene {feature!r} ({len(wrong)} such values)"
            raise InputError(source, "X", found, "raw counts: whole numbers, none negative")
    if values.size and values.max() > LARGEST_COUNT:
        raise InputError(source, "X", f"a count of {values.max():.0f}", f"counts up to {LARGEST_COUNT}")
    return counts


def _no_count(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return ~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))


def _checked_spatial(adata: AnnData, source: object) -> np.ndarray:
    """Spot centres (N, 2), float64, finite and not all the same."""
    field = f'obsm["{SPATIAL}"]'
    if SPATIAL not in adata.obsm:
        raise InputError(source, field, "nothing", "spot centres (x, y) in level-0 pixels")
    spatial = np.asarray(adata.obsm[SPATIAL])
    if spatial.ndim != 2 or spatial.shape[1] != 2:
        raise InputError(source, field, f"shape {spatial.shape}", f"({adata.n_obs}, 2): x and y of every spot")
    if spatial.dtype.kind not in "iuf":
        raise InputError(source, field, f"values of type {spatial.dtype}", "numbers")
    spatial = spatial.astype(np.float64)
    finite = np.isfinite(spatial).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        found = f"{_point(spatial[row])} at spot {adata.obs_names[row]!r}"
        raise InputError(source, field, found, "finite coordinates")
    if len(spatial) > 1 and (spatial == spatial[0]).all():
        raise InputError(source, field, f"all {len(spatial)} spots at {_point(spatial[0])}", "a place for every spot")
    return spatial


def _on_slide(
    spatial: np.ndarray, slide_size: tuple[int, int] | None, barcodes: pd.Index, outside: str, source: object
) -> np.ndarray:
    """(N,) whether each spot centre lies on the slide, where those that do not may go."""
    size = np.array(slide_size if slide_size is not None else (np.inf, np.inf))
    inside = ((spatial >= 0) & (spatial < size)).all(axis=1)
    n_outside = int((~inside).sum())
    if n_outside == 0 or (outside == DROP and n_outside <= MOST_OUTSIDE * len(inside)):
        return inside
    row = int(np.flatnonzero(~inside)[0])
    found = f"{n_outside} of {len(inside)} spots off the slide, first {barcodes[row]!r} at {_point(spatial[row])}"
    if slide_size is None:
        expected = "no negative coordinates"
    else:
        expected = f"x below {slide_size[0]} and y below {slide_size[1]}, none negative"
    if ((spatial >= 0) & (spatial < size[::-1])).all():
        expected += "; with x and y swapped all spots would fit"
    elif not inside.any():
        expected += "; as no spot fits, these may be pixels of another image or unit"
    elif outside == DROP:
        expected += f"; expression.outside: {DROP} would hide a wrong scale above {MOST_OUTSIDE:.0%} of the spots"
    else:
        expected += f"; expression.outside: {DROP} goes on without such spots"
    raise InputError(source, f'obsm["{SPATIAL}"]', found, expected)


def _point(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"


def _genes_of_features(counts: sparse.csr_matrix, adata: AnnData, source: object) -> tuple[np.ndarray, list[str], dict]:
    """Which gene each feature (F,) counts, -1 for those unnamed and controls; the genes' symbols; what was found."""
    names = np.array([str(name).strip() for name in adata.var_names], dtype=object)
    unnamed = np.array([name in NO_NAME for name in names], dtype=bool)
    control = np.array([CONTROL_FEATURES.match(name) is not None for name in names], dtype=bool)
    gene = ~unnamed & ~control
    if not gene.any():
        raise InputError(source, "var index", f"no gene among {len(names)} features", "gene symbols")
    _check_symbols(names[gene], adata, source)
    gene_of_feature = np.full(len(names), -1)
    gene_of_feature[gene], genes, merged = _features_of_one_gene(names[gene])
    of_controls = _totals(counts, control).sum() if control.any() else 0.0
    return (
        gene_of_feature,
        genes,
        {
            "n_features_in": adata.n_vars,
            "n_genes_kept": len(genes),
            "n_unnamed_dropped": int(unnamed.sum()),
            "n_controls_dropped": int(control.sum()),
            "controls_dropped": names[control][:MAX_LISTED].tolist(),
            "control_share_of_counts": float(of_controls / max(counts.data.sum(dtype=np.float64), 1)),
            "n_features_merged": int(gene.sum()) - len(genes),
            "genes_merged": merged[:MAX_LISTED],
        },
    )


def _row_blocks(counts: sparse.csr_matrix, values: int) -> Iterator[slice]:
    """Consecutive rows that hold about so many ``values``."""
    starts = np.searchsorted(counts.indptr, np.arange(0, counts.nnz, values), side="right") - 1
    return (slice(*each) for each in pairwise([*np.unique([0, *starts]).tolist(), counts.shape[0]]))


def _totals(counts: sparse.csr_matrix, features: np.ndarray) -> np.ndarray:
    """Counts of each row (N,) over ``features`` (F,), float64."""
    totals = np.zeros(counts.shape[0])
    for rows in _row_blocks(counts, VALUES_AT_ONCE):
        ends = counts.indptr[rows.start : rows.stop + 1]
        block = slice(ends[0], ends[-1])
        values = counts.data[block] * features[counts.indices[block]]
        filled = np.diff(ends) > 0
        totals[rows][filled] = np.add.reduceat(values, (ends[:-1] - ends[0])[filled], dtype=np.float64)
    return totals


def _genes_only(
    counts: sparse.csr_matrix, kept: np.ndarray, gene_of_feature: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """Counts (rows kept, genes) as CSR float32; features of one gene are summed.

    Written block by block into arrays of the final size, so that nothing else as large as the counts is held.
    """
    gene_of_feature = gene_of_feature.astype(counts.indices.dtype)
    values, genes = np.empty(counts.nnz, dtype=np.float32), np.empty(counts.nnz, dtype=counts.indices.dtype)
    per_row = np.zeros(counts.shape[0], dtype=counts.indptr.dtype)
    filled = 0
    for rows in _row_blocks(counts, VALUES_AT_ONCE):
        ends = counts.indptr[rows.start : rows.stop + 1]
        block = slice(ends[0], ends[-1])
        gene = gene_of_feature[counts.indices[block]]
        wanted = (gene >= 0) & (counts.data[block] != 0) & np.repeat(kept[rows], np.diff(ends))
        before = np.concatenate([[0], np.cumsum(wanted, dtype=np.int32)])[ends - ends[0]]
        per_row[rows] = np.diff(before)
        new = slice(filled, filled + before[-1])
        values[new], genes[new] = counts.data[block][wanted], gene[wanted]
        filled = new.stop
    indptr = np.concatenate([[0], np.cumsum(per_row[kept])]).astype(counts.indptr.dtype)
    matrix = sparse.csr_matrix((values[:filled], genes[:filled], indptr), shape=(int(kept.sum()), n_genes))
    matrix.sum_duplicates()
    return matrix


def _check_symbols(names: np.ndarray, adata: AnnData, source: object) -> None:
    """Refuse names that no text can show, and Ensembl ids; a few are normal: genes without a symbol go by their id."""
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


def _features_of_one_gene(names: np.ndarray) -> tuple[np.ndarray, list[str], list[str]]:
    """The gene of each feature, the genes in order of first appearance, and those that have several features."""
    known = set(names)
    symbols = []
    for name in names:
        suffixed = MADE_UNIQUE.match(name)
        symbols.append(suffixed[1] if suffixed and suffixed[1] in known else name)
    gene_of_feature, genes = pd.factorize(np.array(symbols, dtype=object))
    merged = [str(gene) for gene in genes[np.bincount(gene_of_feature) > 1]]
    return gene_of_feature, [str(gene) for gene in genes], merged


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


def normalise(adata: AnnData, target_sum: float | None = None) -> AnnData:
    """Total-count normalisation over all genes, then the natural logarithm of 1 + x.

    Parameters
    ----------
    adata
        Spots x genes, counts. Not modified.
    target_sum
        Counts that every spot is scaled to; ``None`` takes the median over the slide's spots that have counts, as the
        released code does (the paper names no target).

    Returns
    -------
    The same spots and genes with X float32 log-normalised; a spot without counts stays zero.
    """
    result = adata.copy()
    result.X = sparse.csr_matrix(result.X, dtype=np.float32)
    result.uns["log1p"] = {"base": None}  # as scanpy's log1p leaves it
    _log_normalise(result.X, depth_target(result.X, target_sum))
    return result


def _log_normalise(counts: sparse.csr_matrix, target_sum: float) -> None:
    """Scale each row to ``target_sum`` and take log1p, in place; by scanpy, on rows enough to fill a block."""
    import scanpy as sc

    for rows in _row_blocks(counts, 4 * VALUES_AT_ONCE):
        ends = counts.indptr[rows.start : rows.stop + 1]
        block = slice(ends[0], ends[-1])
        parts = counts.data[block], counts.indices[block], ends - ends[0]
        some = AnnData(sparse.csr_matrix(parts, shape=(len(ends) - 1, counts.shape[1])))
        sc.pp.normalize_total(some, target_sum=target_sum)
        sc.pp.log1p(some)
        counts.data[block] = some.X.data


def depth_target(counts: sparse.spmatrix | np.ndarray, target_sum: float | None) -> float:
    """Counts that every spot of a slide (N, G) is scaled to: ``target_sum``, or the slide's median depth for None.

    Spots without counts are left out of the median; scanpy's own counts them in for CSR, and leaves them out for dense
    matrices.
    """
    if target_sum is not None:
        return target_sum
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    return float(np.median(totals[totals > 0]))


def select_genes(
    slides: Mapping[str, AnnData], n_top: int, markers: Sequence[str], target_sum: float | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The gene panel of a fold: the union of each slide's highly variable genes, and the markers.

    As the released code does it: genes measured on all slides; on each slide normalisation over these genes, log1p and
    the ``n_top`` genes of highest normalised dispersion (Seurat's); their union. Exactly the slides passed
    take part: all of the cohort under the paper's protocol, the training slides under the patient protocol.

    Unlike there, spots without counts on the common genes are left out, a panel smaller than ``n_top`` is no error, and
    the order is by name instead of by hash.

    Parameters
    ----------
    slides
        Counts by sample id, as :func:`clean_counts` returns them. Not modified.
    n_top
        Genes to choose per slide; all common genes are taken where there are no more than that.
    markers
        Genes that enter the panel wherever all of the slides measure them.
    target_sum
        As in :func:`normalise`.

    Returns
    -------
    panel
        ``gene``, ``n_slides_hvg`` (the number of slides that chose it), ``is_marker``; sorted by gene.
    markers
        ``marker``, ``status`` ("in panel", or "not measured in" and the slides that lack it), in the order given.

    Raises
    ------
    InputError
        Where the slides have no gene in common, or a slide has fewer than two spots with counts on the common genes.
    """
    measured = {sample: set(adata.var_names) for sample, adata in slides.items()}
    common = sorted(set.intersection(*measured.values())) if measured else []
    if not common:
        raise InputError(", ".join(slides) or "no slide", "genes", "none in common", "gene symbols of one species")
    if n_top >= len(common):
        logger.warning("hvg_per_slide is %d, the slides have %d genes in common: all are taken", n_top, len(common))
    chosen = pd.Series(0, index=pd.Index(common, dtype=object))
    for sample, adata in slides.items():
        is_common = adata.var_names.isin(common)
        counts = sparse.csr_matrix(adata.X if is_common.all() else adata.X[:, is_common], dtype=np.float32)
        variable = _highly_variable(counts, sample, n_top, target_sum)
        chosen[adata.var_names[is_common]] += variable

    status = {marker: _marker_status(marker, measured) for marker in markers}
    is_marker = chosen.index.isin(list(status))
    panel = pd.DataFrame({"gene": chosen.index, "n_slides_hvg": chosen.to_numpy(), "is_marker": is_marker})
    panel = panel[(panel["n_slides_hvg"] > 0) | panel["is_marker"]].reset_index(drop=True)
    return panel, pd.DataFrame({"marker": list(status), "status": list(status.values())}, dtype=object)


def _highly_variable(counts: sparse.csr_matrix, sample: str, n_top: int, target_sum: float | None) -> np.ndarray:
    """Which of the genes (G,) are among the ``n_top`` most variable of the slide (N, G)."""
    import scanpy as sc

    n_genes = counts.shape[1]
    if n_top >= n_genes:
        return np.ones(n_genes, dtype=bool)
    with_counts = np.asarray(counts.sum(axis=1)).ravel() > 0
    if with_counts.sum() < 2:
        found = f"{int(with_counts.sum())} with counts on the {n_genes} common genes"
        raise InputError(sample, "spots", found, "at least two, to tell variable genes")
    if not with_counts.all():
        counts = counts[with_counts]
    # the counts' own index arrays: only values change
    lognorm = sparse.csr_matrix((counts.data.copy(), counts.indices, counts.indptr), shape=counts.shape)
    _log_normalise(lognorm, depth_target(counts, target_sum))
    ranked = sc.pp.highly_variable_genes(AnnData(lognorm), n_top_genes=n_top, flavor="seurat", inplace=False)
    return ranked["highly_variable"].to_numpy()


def _marker_status(marker: str, measured: Mapping[str, set[str]]) -> str:
    lacking = [sample for sample, genes in measured.items() if marker not in genes]
    return f"not measured in {', '.join(lacking)}" if lacking else "in panel"
