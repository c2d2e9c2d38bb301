"""Normalise counts and choose the gene panel of a fold, by scanpy."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.errors import InputError

logger = logging.getLogger(__name__)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Run compiled loops on one thread, so that sums do not vary."""
    import numba  # slow to import, like scanpy below: not for jobs that only read what was normalised

    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(threads)


def normalise(counts: AnnData, target_sum: float | None = None) -> AnnData:
    """Scale each spot to ``target_sum`` counts, then take log(1 + x).

    The default target is :func:`depth_target`, as in the released code (the paper names none). Returns a copy with X
    CSR float32, in which spots without counts stay zero.
    """
    lognorm = counts.copy()
    lognorm.X = sparse.csr_matrix(lognorm.X, dtype=np.float32)
    _normalise_in_place(lognorm, target_sum)
    return lognorm


def _normalise_in_place(counts: AnnData, target_sum: float | None) -> None:
    import scanpy as sc

    with _single_threaded(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some cells have zero counts")
        sc.pp.normalize_total(counts, target_sum=depth_target(counts.X, target_sum))
        sc.pp.log1p(counts)


def depth_target(counts: sparse.spmatrix | np.ndarray, target_sum: float | None) -> float:
    """Return ``target_sum``, by default the median depth of the slide (N, G).

    Spots without counts do not enter the median. scanpy's default includes them for CSR but not for dense matrices.
    """
    if target_sum is not None:
        return float(target_sum)
    totals = counts @ np.ones(counts.shape[1])  # in float64, which is exact
    return float(np.median(totals[totals > 0]))


def select_genes(
    slides: Mapping[str, AnnData], n_top: int, markers: Sequence[str], target_sum: float | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose the gene panel from each slide's highly variable genes.

    As in the released code: restrict the slides to the genes that all of them measure; on each slide normalise over
    these genes, take log1p and choose the ``n_top`` genes of highest normalised dispersion (Satija et al., Nat
    Biotechnol 33:495, 2015); take the union and the ``markers`` that all slides measure. Unlike there, spots without
    counts on the common genes are left out, a panel smaller than ``n_top`` is not an error, and genes are ordered by
    name instead of by hash.

    Pass the cleaned counts, by sample id, of exactly the slides that may choose: all of the cohort under the paper
    protocol, the training slides under the patient protocol.

    Returns
    -------
    panel
        ``gene``, ``n_slides_hvg`` (number of slides that chose it), ``is_marker``; sorted by gene.
    markers
        ``marker``, ``status`` ("in panel", or "not measured in" and the slides that lack it), in the order given.

    Raises
    ------
    InputError
        If the slides have no gene in common, or a slide has fewer than two spots or no varying gene among these.
    """
    measured = {sample: set(counts.var_names) for sample, counts in slides.items()}
    common = sorted(set.intersection(*measured.values())) if measured else []
    if not common:
        raise InputError(", ".join(slides) or "no slide", "genes", "none in common", "gene symbols of one species")
    if n_top >= len(common):
        logger.warning("hvg_per_slide is %d, the slides have %d genes in common: all are taken", n_top, len(common))
    n_slides = pd.Series(0, index=pd.Index(common, dtype=object))
    for sample, counts in slides.items():
        n_slides[common if n_top >= len(common) else _highly_variable(counts, common, sample, n_top, target_sum)] += 1

    status = {}
    for marker in markers:
        lacking = [sample for sample, genes in measured.items() if marker not in genes]
        status[marker] = f"not measured in {', '.join(lacking)}" if lacking else "in panel"
    is_marker = n_slides.index.isin(list(status))
    panel = pd.DataFrame({"gene": n_slides.index, "n_slides_hvg": n_slides.to_numpy(), "is_marker": is_marker})
    panel = panel[(panel["n_slides_hvg"] > 0) | panel["is_marker"]].reset_index(drop=True)
    return panel, pd.DataFrame({"marker": list(status), "status": list(status.values())}, dtype=object)


def _highly_variable(
    counts: AnnData, common: Sequence[str], sample: str, n_top: int, target_sum: float | None
) -> pd.Index:
    import scanpy as sc

    measured = counts.var_names.isin(common)
    X = sparse.csr_matrix(counts.X)[:, np.flatnonzero(measured)]
    X = X[X.sum(axis=1).A1 > 0]
    if X.shape[0] < 2:
        found = f"{X.shape[0]} with counts on the {len(common)} common genes"
        raise InputError(sample, "spots", found, "at least two, to find variable genes")
    genes = pd.DataFrame(index=counts.var_names[measured])
    lognorm = AnnData(X.astype(np.float32, copy=False), var=genes)
    _normalise_in_place(lognorm, target_sum)
    with _single_threaded(), warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", message="`n_top_genes` > number of normalized dispersions")
        try:
            found = sc.pp.highly_variable_genes(lognorm, n_top_genes=n_top, flavor="seurat", inplace=False)
        except IndexError:  # it looks for the n-th highest of no dispersions
            expected = "counts that differ between spots"
            raise InputError(sample, "genes", "none that varies between spots", expected) from None
    return genes.index[found["highly_variable"]]
