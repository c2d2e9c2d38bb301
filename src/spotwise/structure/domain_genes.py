"""Genes that separate the domains of a slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy  # loads a subpackage when it is used
from scipy import sparse

from spotwise.errors import InputError

COLUMNS = {"names": "gene", "logfoldchanges": "log2_fold_change", "scores": "score", "pvals": "p"}  # scanpy's -> ours


def domain_genes(
    expression: sparse.spmatrix | np.ndarray, genes: Sequence[str], domains: np.ndarray, source: object
) -> pd.DataFrame:
    """Test every gene in every domain against all other spots by scanpy's rank-sum test.

    Ties are corrected for. `variable_genes.CIRCULAR` applies to domains of a space made of expression.

    Parameters
    ----------
    expression, genes
        Log-normalised, spots x genes (N, G), sparse or dense, and the genes' names.
    domains
        (N,) int. A domain of a single spot cannot be tested and is left out.
    source
        File of the domains, for error messages.

    Returns
    -------
    DataFrame
        A row per domain and gene: ``gene``, ``domain``, ``log2_fold_change``, ``score`` (z, positive for higher
        expression in the domain), ``p`` (two-sided), ``q`` (Benjamini-Hochberg over all rows, while scanpy corrects
        each domain separately); sorted by domain, p and name.

    Raises
    ------
    InputError
        Fewer than two domains, or none of more than one spot.
    """
    import anndata
    import scanpy as sc

    number, size = np.unique(domains, return_counts=True)
    tested = [str(domain) for domain, spots in zip(number, size, strict=True) if spots > 1]
    if len(number) < 2 or not tested:
        raise InputError(source, "domains", f"{len(number)}, of {size.max()} spots at most", "at least two to compare")
    adata = anndata.AnnData(sparse.csr_matrix(expression), var=pd.DataFrame(index=pd.Index(genes, dtype=object)))
    adata.obs["domain"] = pd.Categorical(domains.astype(str))
    sc.tl.rank_genes_groups(adata, "domain", groups=tested, method="wilcoxon", tie_correct=True)
    parts = {int(domain): sc.get.rank_genes_groups_df(adata, domain) for domain in tested}
    table = pd.concat(parts, names=["domain", None]).reset_index("domain").rename(columns=COLUMNS)
    table = table[["gene", "domain", "log2_fold_change", "score", "p"]]
    table = table.astype({"gene": object, "log2_fold_change": np.float64, "score": np.float64})
    table["q"] = scipy.stats.false_discovery_control(table["p"])
    return table.sort_values(["domain", "p", "gene"], kind="stable", ignore_index=True)
