"""Noise ceiling, the highest correlation that any predictor can reach.

Counts are random. Split at random into two halves, they are two measurements of the same spot, and the correlation of
the halves across spots is the split-half reliability of a gene, which the formula of Spearman (Br J Psychol 3:271,
1910) and Brown (ibid. 3:296) extends to the full depth. Binomial thinning makes independent halves of Poisson counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.data.genes import depth_target, normalise
from spotwise.evaluation.gene_metrics import gene_blocks, pearson_per_gene


def noise_ceiling(
    counts: AnnData,
    target_sum: float | None,
    spots: Sequence[str] | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate the noise ceiling of each gene of a slide.

    Variation with a spot's depth counts as predictable, as both halves share the depth. The ceiling of a gene with few
    counts is uncertain, and too high where the halves correlate by chance.

    Parameters
    ----------
    counts
        Spots x genes, raw counts.
    target_sum
        As in `genes.normalise`. Halves are scaled to the target of the whole counts, so that their logarithms are
        comparable with those of the measurement.
    spots
        Barcodes of the spots to correlate, which are the scored spots; all by default.
    repeats
        Number of splits to average over.

    Returns
    -------
    DataFrame
        ``gene``; ``r_half``, the mean correlation of the halves, 0 where a half is constant; ``ceiling``, the
        correlation of the expected measurement with one measurement: the square root of the reliability
        2 r / (1 + r), 0 where the halves do not correlate.
    """
    target = depth_target(counts.X, target_sum)
    matrix = sparse.csr_matrix(counts.X if spots is None else counts[spots].X)
    rng = np.random.default_rng(seed)
    r_half = np.mean([_correlate_halves(matrix, target, rng) for _ in range(repeats)], axis=0)
    r = np.maximum(r_half, 0)
    return pd.DataFrame({"gene": counts.var_names, "r_half": r_half, "ceiling": np.sqrt(2 * r / (1 + r))})


def _correlate_halves(counts: sparse.csr_matrix, target_sum: float, rng: np.random.Generator) -> np.ndarray:
    """Correlate (G,) two log-normalised halves of ``counts`` (N, G)."""
    first, second = (normalise(AnnData(half), target_sum).X.tocsc() for half in thin(counts, rng))
    blocks = gene_blocks(counts.shape[1])
    return np.concatenate([pearson_per_gene(first[:, b].toarray(), second[:, b].toarray())[0] for b in blocks])


def thin(counts: sparse.csr_matrix, rng: np.random.Generator) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split ``counts`` into two halves by binomial thinning with p = 0.5."""
    first, second = counts.copy(), counts.copy()
    first.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(counts.dtype)
    second.data = counts.data - first.data
    return first, second
