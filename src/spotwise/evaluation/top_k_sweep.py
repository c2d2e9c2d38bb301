"""Mean PCC of a retrieval method for every number K of retrieved spots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from spotwise.data.folds import Fold
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.evaluation.gene_sets import gene_ranks, gene_sets
from spotwise.inference.observed_files import evaluated_genes
from spotwise.inference.retrieval import Embeddings
from spotwise.models import similarity_search

STEPS = (1, 2, 5)  # K within each power of ten


def top_k_values(bank: int) -> list[int]:
    """List the K of a sweep, 1, 2, 5, 10, ..., up to the size of the bank."""
    powers = (10**power for power in range(len(str(bank))))
    return [*(k for k in (step * power for power in powers for step in STEPS) if k < bank), bank]


def sweep_fold(fold: Fold, bank_fold: Fold, bank: Embeddings, queries: Embeddings, top: int) -> pd.DataFrame:
    """Score every test slide of a fold for every K.

    The results equal those of `retrieval.retrieve` and `scores.score_prediction` for each K. The expression of
    ``bank_fold`` is retrieved: that of ``fold``, or corrected for slides.

    Returns
    -------
    DataFrame
        A row per test slide and K: ``sample``, ``k``, ``bank`` (its size), and the mean PCC of the gene sets
        (`gene_sets.gene_set_columns`). Where K is the whole bank all queries get the same prediction, and the PCC is 0.
    """
    rows = []
    for sample in dict.fromkeys(fold.sample[queries.row]):
        genes = evaluated_genes(fold, sample)
        genes = genes.join(gene_ranks(genes))
        sets = gene_sets(genes, [top])
        needed = np.logical_or.reduce(list(sets.values()))
        of_slide = queries[np.flatnonzero(fold.sample[queries.row] == sample)]
        truth = fold.expression[of_slide.row][:, needed]
        ks = top_k_values(len(bank.row))
        predictions = retrieve_each(of_slide, bank, bank_fold.expression[np.ix_(bank.row, needed)], ks)
        for k, predicted in zip(ks, predictions, strict=True):
            pcc = pd.Series(pearson_per_gene(predicted, truth)[0], index=genes.index[needed])
            means = {name: pcc[mask[needed]].mean() for name, mask in sets.items()}
            rows.append({"sample": sample, "k": k, "bank": len(bank.row), **means})
    return pd.DataFrame(rows)


def retrieve_each(queries: Embeddings, bank: Embeddings, expression: np.ndarray, ks: list[int]) -> np.ndarray:
    """Average the expression (M, G) of the top K bank spots for several ascending K.

    The bank is ranked once per query, in blocks of queries, and each K adds its further spots to the previous sum.
    Equal similarities are ordered by row, as in `similarity_search.nearest`. The result (K, Q, G) is float32.
    """
    n_bank = len(bank.row)
    values = expression.astype(np.float64)
    means = np.empty((len(ks), len(queries.row), expression.shape[1]), dtype=np.float32)
    step = max(1, similarity_search.BLOCK_BYTES // (4 * n_bank))
    for start in range(0, len(queries.row), step):
        block = slice(start, start + step)
        ranked = np.argsort(-(queries.unit[block] @ bank.unit.T), axis=1, kind="stable")
        total = np.zeros((len(ranked), expression.shape[1]))
        for place, (before, k) in enumerate(pairwise([0, *ks])):
            if k < n_bank:
                total += _gather(ranked[:, before:k], n_bank) @ values
                means[place, block] = total / k
            else:  # sums in another order differ in their last digits, which would correlate
                means[place, block] = values.mean(axis=0)
    return means


def _gather(chosen: np.ndarray, n_bank: int) -> csr_array:
    """Build a matrix (B, M) with 1.0 at the ``chosen`` columns (B, k)."""
    n, k = chosen.shape
    return csr_array((np.ones(n * k), chosen.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n_bank))
