"""Claims about the ranks of genes and the gene sets made of them."""

import numpy as np
import pandas as pd

from handmade import GENES, two_folds_two_seeds
from spotwise.evaluation.gene_sets import gene_ranks, gene_sets


def test_ranks_count_from_the_highest_measured_gene_and_ties_go_by_name():
    var = pd.DataFrame(
        {
            "is_measured": [True, True, True, False],
            "reference_mean": [2.0, 2.0, 3.0, 9.0],
            "reference_var": [0.1, 0.0, 0.3, np.nan],
        },
        index=GENES,
    )
    ranks = gene_ranks(var)
    assert ranks["rank_mean"].to_dict() == {"C": 1, "A": 2, "B": 3, "D": 0}
    assert ranks["rank_var"].to_dict() == {"C": 1, "B": 2, "A": 3, "D": 0}


def test_gene_sets_depend_on_the_truth_only():
    scores = two_folds_two_seeds()
    sets = gene_sets(scores, (2,))
    shuffled = scores.assign(pcc=-scores["pcc"], predicted_mean=9.0, predicted_var=-9.0, rmse=0.0, is_constant=True)
    for name, mask in gene_sets(shuffled, (2,)).items():
        pd.testing.assert_series_equal(mask, sets[name])
    assert set(scores.loc[sets["HEG_top2"], "gene"]) == {"A", "B"}
    assert set(scores.loc[sets["HVG_top2"], "gene"]) == {"B", "C"}
    assert set(scores.loc[sets["marker"], "gene"]) == {"D"}
