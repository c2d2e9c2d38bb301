"""Slides of counts built by hand or drawn at random, for tests of cleaning and of gene panels."""

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from spotwise.constants import SPATIAL


def slide(counts, genes, barcodes=None, spatial=None, **parts):
    counts = np.asarray(counts, dtype=np.float32) if isinstance(counts, list) else counts
    spots = counts.shape[0]
    adata = anndata.AnnData(
        counts,
        obs=pd.DataFrame(index=barcodes or [f"{row:03d}x001" for row in range(spots)]),
        var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
        **parts,
    )
    adata.obsm[SPATIAL] = 10.0 + np.arange(2 * spots).reshape(spots, 2) if spatial is None else np.asarray(spatial)
    return adata


def random_slide(seed, genes, spots=80):
    """Draw counts of many genes with their own mean and dispersion."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0, 1.5, genes)
    r = rng.lognormal(0, 1, genes)
    counts = rng.negative_binomial(r, r / (r + mean), (spots, genes)).astype(np.float32)
    counts[0] += 1  # no gene without counts
    return slide(sparse.csr_matrix(counts), [f"G{g:03d}" for g in range(genes)])


def dense(adata):
    return adata.X.toarray()
