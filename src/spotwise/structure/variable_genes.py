"""Spatially variable genes of a slide, and their agreement with domain genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used
from scipy import sparse

from spotwise.errors import InputError
from spotwise.evaluation.gene_metrics import constant_genes, gene_blocks
from spotwise.evaluation.spatial_metrics import adjacency, morans_i

# A gene in fewer spots has too few positions for a spatial pattern
MIN_SPOTS = 10
SIGNIFICANT = 0.05
CIRCULAR = (
    "Domains of a space that was made of these genes separate some of them even in pure noise: p and q rank the genes "
    "of a domain and are no evidence that there are domains. If domains differ in depth, nearly every gene of few "
    "counts separates them."
)


def spatially_variable_genes(
    expression: sparse.spmatrix | np.ndarray,
    genes: Sequence[str],
    spatial: np.ndarray,
    total_counts: np.ndarray,
    source: object,
) -> pd.DataFrame:
    """Test every gene for positive spatial autocorrelation by Moran's I between adjacent spots.

    p is the probability of an I as large under random permutation of the gene's values over the spots (`moran_null`); q
    corrects p for the number of genes (Benjamini & Hochberg, J R Stat Soc B 57:289, 1995). ``q_beyond_depth`` is q for
    the residuals of a parabola in the logarithm of the spot's counts. It is conservative: where depth marks dense or
    living tissue, genes of that tissue lose as well.

    Parameters
    ----------
    expression, genes
        Log-normalised, spots x genes (N, G), sparse or dense, and the genes' names.
    spatial, total_counts
        (N, 2) spot centres, any unit, and (N,) counts of the spots over all genes, above 0.
    source
        File of the slide, for error messages.

    Returns
    -------
    DataFrame
        A row per varying gene with counts in at least `MIN_SPOTS` spots: ``gene``, ``n_spots``, ``mean``,
        ``moran_i``, ``p``, ``q``, ``q_beyond_depth``; sorted by p, decreasing I and name.

    Raises
    ------
    InputError
        There is no such gene, or no two spots are adjacent.
    """
    adjacent = adjacency(spatial)
    if not adjacent.nnz:
        raise InputError(source, "spots", "none adjacent to another", "an array of spots")
    expression = sparse.csc_array(expression)
    n_spots = np.asarray((expression > 0).sum(axis=0)).ravel()
    tested = np.flatnonzero(n_spots >= MIN_SPOTS)
    parts = []
    for block in gene_blocks(len(tested)):
        values = expression[:, tested[block]].toarray().astype(np.float64)
        varies = ~constant_genes(values)
        values, kept = values[:, varies], tested[block][varies]
        rest = without_depth(values, total_counts)
        moran = morans_i(values, adjacent)
        parts.append(
            {
                "gene": np.asarray(genes, dtype=object)[kept],
                "n_spots": n_spots[kept],
                "mean": values.mean(axis=0),
                "moran_i": moran,
                "p": moran_null(values, adjacent).sf(moran),
                "p_rest": moran_null(rest, adjacent).sf(morans_i(rest, adjacent)),
            }
        )
    if not sum(len(part["gene"]) for part in parts):
        raise InputError(source, "genes", f"none that varies and is in {MIN_SPOTS} spots", "genes to test")
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    table["q"] = scipy.stats.false_discovery_control(table["p"])
    table["q_beyond_depth"] = scipy.stats.false_discovery_control(table.pop("p_rest"))
    order = np.lexsort((table["gene"], -table["moran_i"], table["p"]))
    return table.iloc[order].reset_index(drop=True)


def without_depth(values: np.ndarray, total_counts: np.ndarray) -> np.ndarray:
    """Remove from ``values`` (N, G) a parabola in the log counts of spots (N,)."""
    depth = np.log(np.asarray(total_counts, dtype=np.float64))
    depth -= depth.mean()
    design = np.stack([np.ones_like(depth), depth, depth**2], axis=1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def moran_null(expression: np.ndarray, adjacent: sparse.csr_array) -> scipy.stats.distributions.rv_frozen:
    """Approximate the distribution of Moran's I over all permutations of values.

    Mean and variance are those of the randomisation null of Cliff & Ord (Spatial Processes, 1981, chapter 2), the third
    moment is derived in the same way (docs/statistics.md), and the distribution is Pearson's type III.

    I is a sum of products over pairs of adjacent spots. Its powers are sums over two and three pairs, classified by the
    spots that they share: each class is counted on the array, and has the expectation of a product of powers of the
    values of distinct spots (`_distinct_products`). No gene of ``expression`` (N, G) is constant; ``adjacent`` is as
    from `adjacency`.
    """
    values = expression - expression.mean(axis=0)
    values /= np.linalg.norm(values, axis=0)
    n = len(values)
    expected = _distinct_products(values)

    degree = adjacent.sum(axis=1)
    pairs = degree.sum() / 2
    forks = (degree * (degree - 1)).sum() / 2  # two pairs that share a spot
    stars = (degree * (degree - 1) * (degree - 2)).sum() / 6  # three that share one
    triangles = (adjacent @ adjacent).multiply(adjacent).sum() / 6
    ends = adjacent.tocoo()
    chains = ((degree[ends.row] - 1) * (degree[ends.col] - 1)).sum() / 2 - 3 * triangles  # three in a row
    # two that share a spot, and one apart
    broken = forks * (pairs - 2) - 3 * triangles - 3 * stars - 2 * chains
    apart = pairs * (pairs - 1) * (pairs - 2) / 6 - triangles - stars - chains - broken

    first = pairs * expected(1, 1)
    two_apart = pairs * (pairs - 1) - 2 * forks
    second = pairs * expected(2, 2) + 2 * forks * expected(2, 1, 1) + two_apart * expected(1, 1, 1, 1)
    third = (
        pairs * expected(3, 3)
        + 3 * (2 * forks * expected(3, 2, 1) + two_apart * expected(2, 2, 1, 1))
        + 6 * triangles * expected(2, 2, 2)
        + 6 * stars * expected(3, 1, 1, 1)
        + 6 * chains * expected(2, 2, 1, 1)
        + 6 * broken * expected(2, 1, 1, 1, 1)
        + 6 * apart * expected(1, 1, 1, 1, 1, 1)
    )
    variance = second - first**2
    skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
    return scipy.stats.pearson3(skewness, loc=-1 / (n - 1), scale=np.sqrt(variance) * n / pairs)


def _distinct_products(values: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a function for expected products of values of distinct spots.

    ``expected(2, 1, 1)`` is the expectation (G,) of x_i^2 x_j x_k over all distinct i, j, k: the sum over all spots
    less the terms in which the last spot equals one of the others. Columns are centred, so sums of x are 0.
    """
    n = len(values)
    power_sum = {power: (values**power).sum(axis=0) for power in range(2, 7)} | {1: np.zeros(values.shape[1])}

    def total(*powers: int) -> np.ndarray:
        *others, last = powers
        if not others:
            return power_sum[last]
        coinciding = ([*others[:at], others[at] + last, *others[at + 1 :]] for at in range(len(others)))
        return power_sum[last] * total(*others) - sum(total(*merged) for merged in coinciding)

    def expected(*powers: int) -> np.ndarray:
        return total(*powers) / np.prod(n - np.arange(len(powers), dtype=np.float64))

    return expected


def gene_agreement(spatial: pd.DataFrame, of_domains: pd.DataFrame) -> dict[str, float | int | None]:
    """Compare spatially variable genes with those that separate domains.

    The tables are those of `spatially_variable_genes` and, of the same genes, `domain_genes.domain_genes`. A gene with
    q < `SIGNIFICANT` in any domain separates the domains.

    Returns
    -------
    dict
        ``n_genes`` tested; ``n_spatial``, ``n_domain`` and ``n_both`` with q < `SIGNIFICANT`, and
        ``n_spatial_beyond_depth`` with ``q_beyond_depth`` below it; ``jaccard`` of the two lists; ``odds_ratio`` of
        one list for genes on the other, with 1/2 added to each count (Haldane) so that it is finite; ``fisher_p``, the
        probability of so large an overlap of independent lists; ``spearman`` between I and the gene's largest absolute
        score in a domain. ``None`` where a number is undefined.
    """
    strongest = of_domains.assign(score=of_domains["score"].abs()).groupby("gene").agg({"score": "max", "q": "min"})
    if set(strongest.index) != set(spatial["gene"]):
        raise ValueError("the two tables hold different genes")
    strongest = strongest.loc[spatial["gene"]]
    varies = spatial["q"].to_numpy() < SIGNIFICANT
    separates = strongest["q"].to_numpy() < SIGNIFICANT
    table = np.array(
        [[np.sum(varies & separates), np.sum(varies & ~separates)],
         [np.sum(~varies & separates), np.sum(~varies & ~separates)]]
    )  # fmt: skip
    union = table.sum() - table[1, 1]
    odds = table + 0.5
    ranked = np.ptp(spatial["moran_i"]) > 0 and np.ptp(strongest["score"]) > 0
    return {
        "n_genes": len(spatial),
        "n_spatial": int(varies.sum()),
        "n_spatial_beyond_depth": int((spatial["q_beyond_depth"] < SIGNIFICANT).sum()),
        "n_domain": int(separates.sum()),
        "n_both": int(table[0, 0]),
        "jaccard": float(table[0, 0] / union) if union else None,
        "odds_ratio": float(odds[0, 0] * odds[1, 1] / (odds[0, 1] * odds[1, 0])),
        "fisher_p": float(scipy.stats.fisher_exact(table, alternative="greater").pvalue),
        "spearman": float(scipy.stats.spearmanr(spatial["moran_i"], strongest["score"]).statistic) if ranked else None,
    }
