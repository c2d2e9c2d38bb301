"""Claims about the ranks of genes and the gene sets made of them."""

import numpy as np
import pandas as pd

from handmade import GENES, two_folds_two_seeds
from spotwise.evaluation.gene_sets import gene_ranks, gene_sets


def test_ranks_count_from_the_highest_measured_gene_and_ties_go_by_name():
    var = pd.DataFrame(
        {
            "is_hvg": True,
            "is_measured": [True, True, True, False],
            "reference_mean": [2.0, 2.0, 3.0, 9.0],
            "reference_var": [0.1, 0.0, 0.3, np.nan],
        },
        index=GENES,
    )
    ranks = gene_ranks(var)
    assert ranks["rank_mean"].to_dict() == {"C": 1, "A": 2, "B": 3, "D": 0}
    assert ranks["rank_var"].to_dict() == {"C": 1, "B": 2, "A": 3, "D": 0}


def test_a_marker_that_no_slide_chose_as_variable_takes_no_place_in_the_lists():
    """C has the highest mean and variance, but is in the panel as a marker only; E is a marker that is an HVG, too."""
    var = pd.DataFrame(
        {
            "is_hvg": [True, True, False, True, True],
            "is_marker": [False, False, True, False, True],
            "is_measured": [True, True, True, False, True],
            "reference_mean": [2.0, 1.0, 9.0, 8.0, 3.0],
            "reference_var": [0.1, 0.2, 0.9, 0.8, 0.3],
        },
        index=list("ABCDE"),
    )
    ranks = gene_ranks(var)
    assert ranks["rank_mean"].to_dict() == {"E": 1, "A": 2, "B": 3, "C": 0, "D": 0}
    assert ranks["rank_var"].to_dict() == {"E": 1, "B": 2, "A": 3, "C": 0, "D": 0}
    for size, listed in ((1, {"E"}), (2, {"E", "A"}), (50, {"E", "A", "B"})):  # fewer HVG than places: all of them
        sets = gene_sets(var.join(ranks), (size,))
        assert set(var.index[sets[f"HEG_top{size}"]]) == listed
        assert set(var.index[sets["marker"]]) == {"C", "E"}


def test_gene_sets_depend_on_the_truth_only():
    scores = two_folds_two_seeds()
    sets = gene_sets(scores, (2,))
    shuffled = scores.assign(pcc=-scores["pcc"], predicted_mean=9.0, predicted_var=-9.0, rmse=0.0, is_constant=True)
    for name, mask in gene_sets(shuffled, (2,)).items():
        pd.testing.assert_series_equal(mask, sets[name])
    assert set(scores.loc[sets["HEG_top2"], "gene"]) == {"A", "B"}
    assert set(scores.loc[sets["HVG_top2"], "gene"]) == {"B", "C"}
    assert set(scores.loc[sets["marker"], "gene"]) == {"D"}
