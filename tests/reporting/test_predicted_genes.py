"""Claims about which predicted genes are shown, and in what words."""

import numpy as np
import pytest

from predictedslide import prediction
from spotwise.errors import InputError
from spotwise.reporting.predicted_genes import choose_genes, correlation, judgement

VAR = prediction().var


def test_reliable_genes_come_best_first():
    assert choose_genes(VAR, "reliable") == ["CD3E", "EPCAM"]


def test_the_panel_is_ranked_and_genes_without_a_score_come_last():
    assert choose_genes(VAR, "panel") == ["CD3E", "EPCAM", "KRT8", "MGP", "ACTB"]


def test_markers_are_chosen_whatever_their_reliability():
    assert choose_genes(VAR, "markers") == ["MGP"]


def test_named_genes_keep_their_order():
    assert choose_genes(VAR, ["ACTB", "EPCAM", "ACTB"]) == ["ACTB", "EPCAM"]


@pytest.mark.parametrize("genes", [None, [f"G{number:04d}" for number in range(100)]])
def test_a_gene_that_the_model_lacks_is_refused_in_one_line(genes):
    var = prediction(genes=genes).var if genes else VAR
    wrong = f"{var.index[0]}X"
    with pytest.raises(
        InputError, match=f"predict.genes: gene: found {wrong}, .*did you mean '{var.index[0]}'"
    ) as error:
        choose_genes(var, [wrong])
    assert len(str(error.value)) < 200


def test_correlations_are_written_with_their_interval():
    assert correlation(VAR.loc["EPCAM"]) == "0.50 [0.40, 0.60]"
    assert correlation(VAR.loc["MGP"]) == "0.05 [−0.05, 0.15]"
    assert correlation(VAR.loc["EPCAM"].replace({0.4: np.nan})) == "0.50"
    assert correlation(VAR.loc["ACTB"]) == "not known"
    assert [judgement(VAR.loc[gene]) for gene in ("EPCAM", "KRT8")] == ["reliable", "not reliable"]
