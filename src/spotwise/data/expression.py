"""Counts of a slide: cleaned, normalised, and the panel of genes that a fold works on."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.data.blocks import by_rows, csr, index_dtype, room, row_blocks
from spotwise.constants import DROPPED, SPATIAL, TOTAL_COUNTS
from spotwise.errors import InputError

if TYPE_CHECKING:
    from spotwise.data.blocks import Rows

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
MEAN_BINS = 20  # of genes of about the same mean, among which Seurat compares dispersions
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
    scratch: Path | None = None,
) -> tuple[AnnData, dict]:
    """Check the counts of one slide and keep what an analysis of genes in spots can use.

    Features without a name and control features go, then spots with fewer than ``min_counts`` counts. Features of
    one symbol are summed: they are annotations of the same gene (10x references hold a few), its reads are split
    between them, and keeping the first would lose counts. HEST's files carry the second one under an invented
    ``SYMBOL-1``; it is summed too where ``SYMBOL`` is there (so ``NKX2-1`` stays what it is).

    The counts pass by blocks of rows, twice. Where the file's X stays in the file, and what is kept does not fit into
    memory, no matrix is ever held.

    Parameters
    ----------
    adata
        Spots x features, raw counts, dense or sparse, in memory or in the file (``backed``), ``obsm["spatial"]`` (N, 2)
        = spot centres (x, y) in level-0 pixels. Not modified.
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
    scratch
        Folder for counts that are larger than memory, see :func:`spotwise.data.blocks.room`.

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
    spatial = _checked_spatial(adata, source)
    inside = _on_slide(spatial, slide_size, adata.obs_names, outside, source)
    features = _features(adata, source)
    counts = _matrix(adata, source, scratch)
    found = _checked_counts(counts, adata, features, source)

    totals = found.totals.astype(np.int64)
    kept = inside & (totals >= min_counts)
    if not totals[kept].any():
        raise InputError(source, "X", f"at most {totals.max()} counts per spot", f"spots with min_counts={min_counts}")
    cleaned = AnnData(
        X=_genes_only(counts, kept, features, found.n_values, scratch),
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
        **_feature_qc(features, found.per_feature),
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


def _matrix(adata: AnnData, source: object, scratch: Path | None) -> Rows:
    """X in a form that can be read by blocks of rows."""
    if adata.X is None:
        raise InputError(source, "X", "nothing", "raw counts, spots x genes")
    try:
        matrix = by_rows(adata.X, scratch)
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise _no_matrix(source, error) from None
    dtype = matrix.data.dtype if hasattr(matrix, "indptr") else matrix.dtype
    if dtype.kind not in "biuf":
        raise InputError(source, "X", f"values of type {dtype}", "raw counts")
    return matrix


def _no_matrix(source: object, error: Exception) -> InputError:
    return InputError(source, "X", f"no matrix ({error})", "raw counts, spots x genes")


class _Found(NamedTuple):
    """What a first pass over counts (N, F) finds.

    ``totals`` (N,) are the counts of each spot over all genes, ``per_feature`` (F,) those of each feature over all
    spots, both float64; ``n_values`` is how many are stored.
    """

    totals: np.ndarray
    per_feature: np.ndarray
    n_values: int


def _checked_counts(counts: Rows, adata: AnnData, features: _Features, source: object) -> _Found:
    """See that every value is a count, and add them up."""
    per_spot, per_feature = np.zeros(counts.shape[0]), np.zeros(counts.shape[1])
    of_genes = (features.gene >= 0).astype(np.float64)
    most, n_values, n_wrong, first = 0, 0, 0, ""
    try:
        for rows, block in row_blocks(counts):
            block = _each_once(block)
            n_values += block.nnz
            wrong = _no_counts(block.data)
            if len(wrong):
                first = first or _place(block, rows.start, int(wrong[0]), adata)
                n_wrong += len(wrong)
            elif block.nnz:
                most = max(most, block.data.max())
                per_spot[rows] = block @ of_genes
                per_feature += block.T @ np.ones(block.shape[0])
    except (TypeError, ValueError, OSError) as error:
        raise _no_matrix(source, error) from None
    if n_wrong:
        found = f"{first} ({n_wrong} such values)"
        raise InputError(source, "X", found, "raw counts: whole numbers, none negative")
    if most > LARGEST_COUNT:
        raise InputError(source, "X", f"a count of {most:.0f}", f"counts up to {LARGEST_COUNT}")
    return _Found(per_spot, per_feature, n_values)


def _no_counts(values: np.ndarray) -> np.ndarray:
    """Where values are no counts, ascending; the usual answer, nowhere, is found without a look at each."""
    if not len(values) or values.dtype.kind in "bu":
        return np.empty(0, dtype=np.int64)
    if values.min() >= 0 and values.max() < np.inf and (values.dtype.kind == "i" or (np.floor(values) == values).all()):
        return np.empty(0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values == np.floor(values))))


def _place(block: sparse.csr_matrix, first_row: int, at: int, adata: AnnData) -> str:
    """The value at position ``at`` of a block whose rows begin with ``first_row``, and whose it is."""
    row = first_row + np.searchsorted(block.indptr, at, side="right") - 1
    feature = adata.var_names[block.indices[at]]
    return f"{block.data[at]} at spot {adata.obs_names[row]!r}, gene {feature!r}"


def _each_once(block: sparse.csr_matrix) -> sparse.csr_matrix:
    """The block with the entries of each row in order and none twice; not changed if so already."""
    if not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    return block


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


class _Features(NamedTuple):
    """What the F features of a slide are.

    ``names`` (F,); ``gene`` (F,) which gene each one counts, -1 for those unnamed and controls; ``is_control`` (F,);
    ``genes`` their symbols, in order of first appearance; ``merged`` those of them that have several features.
    """

    names: np.ndarray
    gene: np.ndarray
    is_control: np.ndarray
    genes: list[str]
    merged: list[str]


def _features(adata: AnnData, source: object) -> _Features:
    names = np.array([str(name).strip() for name in adata.var_names], dtype=object)
    unnamed = np.array([name in NO_NAME for name in names], dtype=bool)
    is_control = np.array([CONTROL_FEATURES.match(name) is not None for name in names], dtype=bool)
    is_gene = ~unnamed & ~is_control
    if not is_gene.any():
        raise InputError(source, "var index", f"no gene among {len(names)} features", "gene symbols")
    _check_symbols(names[is_gene], adata, source)
    gene = np.full(len(names), -1)
    gene[is_gene], genes, merged = _features_of_one_gene(names[is_gene])
    return _Features(names, gene, is_control, genes, merged)


def _feature_qc(features: _Features, counts: np.ndarray) -> dict:
    """What to tell of the features, with their ``counts`` (F,) over the slide."""
    n_of_genes, n_controls = int((features.gene >= 0).sum()), int(features.is_control.sum())
    return {
        "n_features_in": len(features.names),
        "n_genes_kept": len(features.genes),
        "n_unnamed_dropped": len(features.names) - n_of_genes - n_controls,
        "n_controls_dropped": n_controls,
        "controls_dropped": features.names[features.is_control][:MAX_LISTED].tolist(),
        "control_share_of_counts": float(counts[features.is_control].sum() / max(counts.sum(), 1)),
        "n_features_merged": n_of_genes - len(features.genes),
        "genes_merged": features.merged[:MAX_LISTED],
    }


def _genes_only(
    counts: Rows, kept: np.ndarray, features: _Features, n_values: int, scratch: Path | None
) -> sparse.csr_matrix:
    """Counts (rows kept, genes) as CSR float32, of ``n_values`` at most; features of one gene are summed."""
    n_genes = len(features.genes)
    index = index_dtype(n_values, n_genes)
    gene_of_feature = features.gene.astype(index)
    values, genes = room(n_values, np.float32, index, scratch=scratch)
    per_row = np.zeros(counts.shape[0], dtype=index)
    filled = 0
    for rows, block in row_blocks(counts):
        block = _of_genes(_each_once(block), kept[rows], gene_of_feature, n_genes)
        new = slice(filled, filled + block.nnz)
        values[new], genes[new] = block.data, block.indices
        per_row[rows] = np.diff(block.indptr)
        filled = new.stop
    indptr = np.concatenate([[0], np.cumsum(per_row[kept], dtype=np.int64)]).astype(index)
    return csr(values[:filled], genes[:filled], indptr, (int(kept.sum()), n_genes))


def _of_genes(
    block: sparse.csr_matrix, kept: np.ndarray, gene_of_feature: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """The block (n, F) with genes for features (n, G); rows that are not kept are empty."""
    gene = gene_of_feature[block.indices]
    wanted = (gene >= 0) & (block.data != 0)
    if not kept.all():
        wanted &= np.repeat(kept, np.diff(block.indptr))
    data, indptr = block.data, block.indptr
    if not wanted.all():
        indptr = np.concatenate([[0], np.cumsum(wanted, dtype=indptr.dtype)])[indptr]
        data, gene = data[wanted], gene[wanted]
    return _each_once(csr(data.astype(np.float32, copy=False), gene, indptr, (block.shape[0], n_genes)))


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


def normalise(adata: AnnData, target_sum: float | None = None, scratch: Path | None = None) -> AnnData:
    """Total-count normalisation over all genes, then the natural logarithm of 1 + x.

    Parameters
    ----------
    adata
        Spots x genes, counts, in memory. Not modified.
    target_sum
        Counts that every spot is scaled to; ``None`` takes the median over the slide's spots that have counts, as the
        released code does (the paper names no target).
    scratch
        Folder for values that are larger than memory, see :func:`spotwise.data.blocks.room`.

    Returns
    -------
    The same spots and genes with X CSR float32 log-normalised; a spot without counts stays zero. X has the index arrays
    of CSR counts themselves, not copies.
    """
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    (values,) = room(counts.nnz, np.float32, scratch=scratch)
    totals = _totals(counts)
    scale = _scale(totals, _target(totals, target_sum))
    for rows, block in row_blocks(counts):
        _log_normalise(block, scale[rows], values[counts.indptr[rows.start] : counts.indptr[rows.stop]])
    return AnnData(
        X=csr(values, counts.indices, counts.indptr, counts.shape),
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm=dict(adata.obsm.copy()),
        uns={**deepcopy(dict(adata.uns)), "log1p": {"base": None}},  # as scanpy's log1p leaves it
    )


def depth_target(counts: sparse.spmatrix | np.ndarray, target_sum: float | None) -> float:
    """Counts that every spot of a slide (N, G) is scaled to: ``target_sum``, or the slide's median depth for None.

    Spots without counts are left out of the median; scanpy's own counts them in for CSR, and leaves them out for dense
    matrices.
    """
    return _target(_totals(by_rows(counts)), target_sum)


def _target(totals: np.ndarray, target_sum: float | None) -> float:
    return float(np.median(totals[totals > 0]) if target_sum is None else target_sum)


def _totals(counts: Rows, genes: np.ndarray | None = None) -> np.ndarray:
    """Counts of each spot (N,) over ``genes`` (G,), or all, float64."""
    weight = np.ones(counts.shape[1]) if genes is None else genes.astype(np.float64)
    totals = np.zeros(counts.shape[0])
    for rows, block in row_blocks(counts):
        totals[rows] = block @ weight
    return totals


def _scale(totals: np.ndarray, target: float) -> np.ndarray:
    """What to divide the counts of each spot by (N,), float32 as in scanpy's normalize_total; 1 for an empty spot."""
    scale = totals.astype(np.float32) / target
    scale[scale == 0] = 1
    return scale


def _log_normalise(block: sparse.csr_matrix, scale: np.ndarray, out: np.ndarray) -> None:
    """The stored values of a block (n, G), each divided by its row's ``scale`` (n,) and log1p taken, float32."""
    np.divide(block.data, np.repeat(scale, np.diff(block.indptr)), out=out)
    np.log1p(out, out=out)


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
        Counts by sample id, as :func:`clean_counts` returns them, in memory or in their files (``backed``), from which
        they are read by blocks of rows. Not modified.
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
        variable = _highly_variable(by_rows(adata.X), is_common, sample, n_top, target_sum)
        chosen[adata.var_names[is_common]] += variable[is_common]

    status = {marker: _marker_status(marker, measured) for marker in markers}
    is_marker = chosen.index.isin(list(status))
    panel = pd.DataFrame({"gene": chosen.index, "n_slides_hvg": chosen.to_numpy(), "is_marker": is_marker})
    panel = panel[(panel["n_slides_hvg"] > 0) | panel["is_marker"]].reset_index(drop=True)
    return panel, pd.DataFrame({"marker": list(status), "status": list(status.values())}, dtype=object)


def _highly_variable(counts: Rows, genes: np.ndarray, sample: str, n_top: int, target_sum: float | None) -> np.ndarray:
    """Which columns (G,) of a slide (N, G) are among the ``n_top`` most variable of ``genes`` (G,)."""
    n_genes = int(genes.sum())
    if n_top >= n_genes:
        return genes
    totals = _totals(counts, genes)
    n_spots = int((totals > 0).sum())
    if n_spots < 2:
        found = f"{n_spots} with counts on the {n_genes} common genes"
        raise InputError(sample, "spots", found, "at least two, to tell variable genes")
    mean, variance = _moments(counts, _scale(totals, _target(totals, target_sum)), n_spots)
    dispersion = np.full(len(genes), np.nan)
    dispersion[genes] = _normalised_dispersion(mean[genes], variance[genes])
    highest = np.sort(dispersion[~np.isnan(dispersion)])[-n_top:]
    return dispersion >= highest.min(initial=np.inf)


def _moments(counts: Rows, scale: np.ndarray, n_spots: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance (G,) of normalised counts, over ``n_spots`` spots; the others have none.

    As scanpy has it, which undoes a logarithm in float32. Sums are in float64 and in the order of spots; scanpy's order
    depends on how many threads numba takes.
    """
    sums, squares = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for rows, block in row_blocks(counts):
        values = np.empty(block.nnz, dtype=np.float32)
        _log_normalise(block, scale[rows], values)
        np.expm1(values, out=values)
        for total, powers in ((sums, values), (squares, values * values)):
            total += csr(powers, block.indices, block.indptr, block.shape).T @ np.ones(block.shape[0])
    mean = sums / n_spots
    return mean, (squares / n_spots - mean**2) * (n_spots / (n_spots - 1))


def _normalised_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Dispersion of each gene (G,), set against genes of about its mean; NaN for a gene that does not vary.

    Seurat's (Satija et al., Nat Biotechnol 33:495, 2015) as in scanpy: the logarithm of variance over mean, less the
    mean of its bin, over the standard deviation of its bin. A gene alone in its bin has 1.
    """
    mean = np.where(mean == 0, 1e-12, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = pd.Series(np.log(variance / mean)).replace(-np.inf, np.nan)
    in_bin = dispersion.groupby(pd.cut(pd.Series(np.log1p(mean)), bins=MEAN_BINS), observed=True)
    average, spread = in_bin.transform("mean"), in_bin.transform("std")
    alone = spread.isna()
    average, spread = average.mask(alone, 0.0), spread.mask(alone, average)
    return ((dispersion - average) / spread).to_numpy()


def _marker_status(marker: str, measured: Mapping[str, set[str]]) -> str:
    lacking = [sample for sample, genes in measured.items() if marker not in genes]
    return f"not measured in {', '.join(lacking)}" if lacking else "in panel"
