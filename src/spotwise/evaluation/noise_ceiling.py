"""The noise ceiling: the highest correlation that any predictor can have with measured counts.

The counts of a spot are a draw. Split at random into two halves, they are two measurements of the same spot, and the
correlation of the halves across spots tells how reliable a gene is: split-half reliability, brought to the full depth
by the formula of Spearman (Br J Psychol 3:271, 1910) and Brown (ibid. 3:296). Binomial thinning makes independent
halves of Poisson counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from spotwise.data.genes import depth_target, normalise
from spotwise.evaluation.gene_metrics import GENES_PER_BLOCK, pearson_per_gene


def noise_ceiling(
    counts: AnnData,
    target_sum: float | None,
    spots: Sequence[str] | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the expression of each gene of a slide can be predicted at best.

    What varies with a spot's depth counts as predictable: both halves share the depth. The ceiling of a gene with few
    counts is uncertain, and too high where chance alone correlates the halves.

    Parameters
    ----------
    counts
        Spots x genes, raw counts.
    target_sum
        As in `normalise`. Halves are scaled to the target of the whole counts, so that their
        logarithm bends where that of the measurement does; half the target would be another measure.
    spots
        Barcodes of the spots to correlate, those that are scored; all by default.
    repeats
        Splits to average over.
    seed
        Of the splits.

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
    """Correlation (G,) of two halves of ``counts`` (N, G), log-normalised; a block of genes at a time is dense."""
    first, second = (normalise(AnnData(half), target_sum).X.tocsc() for half in thin(counts, rng))
    blocks = [slice(start, start + GENES_PER_BLOCK) for start in range(0, counts.shape[1], GENES_PER_BLOCK)]
    return np.concatenate([pearson_per_gene(first[:, b].toarray(), second[:, b].toarray())[0] for b in blocks])


def thin(counts: sparse.csr_matrix, rng: np.random.Generator) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Two halves of ``counts``: each single count goes to the one or the other by the toss of a coin."""
    first, second = counts.copy(), counts.copy()
    first.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(counts.dtype)
    second.data = counts.data - first.data
    return first, second
