"""Claims about the scores of a prediction."""

import numpy as np
import pandas as pd
import pytest

from handmade import GENES, prediction
from spotwise.evaluation.scores import score_prediction


def test_scores_of_a_small_prediction_by_hand():
    observed = [[1, 0, 5, np.nan], [2, 0, 5, np.nan], [3, 3, 5, np.nan]]
    predicted = [[2, 1, 5, 1], [2, 1, 6, 2], [5, 0, 7, 3]]
    scores = score_prediction(
        prediction(predicted, observed, is_measured=[True, True, True, False], is_marker=[False, True, False, True])
    ).set_index("gene")
    # B: deviations (-1, -1, 2) and (-1, 0, 1): 3 / sqrt(6 * 2);  A: (1, 1, -2)/3 against (-1, -1, 2): -1
    assert scores["pcc"][["B", "A", "C"]].tolist() == pytest.approx([3 / np.sqrt(12), -1, 0])
    assert scores["is_constant"].tolist() == [False, False, True, False]
    # squared errors: B 1, 0, 4;  A 1, 1, 9;  C 0, 1, 4
    assert scores["rmse"][["B", "A", "C"]].tolist() == pytest.approx(np.sqrt([5 / 3, 11 / 3, 5 / 3]))
    # ranks: B (1.5, 1.5, 3) and (1, 2, 3), deviations (-1, -1, 2) / 2 and (-1, 0, 1): 1.5 / sqrt(1.5 * 2)
    assert scores["spearman"][["B", "A", "C"]].tolist() == pytest.approx([1.5 / np.sqrt(3), -1, 0])
    # residuals: B -1, 0, -2 with variance 2/3 of 2/3;  A -1, -1, 3 with variance 32/9 of 2
    assert scores["explained_variance"][["B", "A", "C"]].tolist() == pytest.approx([0, 1 - 32 / 18, 0])
    # 3 spots, 2 pairs of neighbours; truth B: 0 of 2, A: 1 - 2 of 6;  prediction B: 1 - 2 of 6, A: -1/9 of 6/9, C: 0
    assert scores["moran_observed"][["B", "A", "C"]].tolist() == pytest.approx([0, 3 / 2 * -1 / 6, 0])
    assert scores["moran_predicted"][["B", "A", "C"]].tolist() == pytest.approx([-1 / 4, -1 / 4, 0])
    assert scores["ssim"]["A"] < 0 < scores["ssim"]["B"]
    assert scores["ssim"]["C"] == 0
    assert scores.loc["B", ["observed_mean", "observed_var", "predicted_mean", "predicted_var"]].tolist() == [
        2,
        2 / 3,
        3,
        2,
    ]
    unmeasured = scores.loc["D"]
    needs_truth = ["pcc", "rmse", "spearman", "explained_variance", "ssim", "moran_observed", "moran_predicted"]
    assert unmeasured[[*needs_truth, "observed_mean", "observed_var"]].isna().all()
    assert (scores[needs_truth].dtypes == np.float64).all()
    assert unmeasured[["rank_mean", "rank_var"]].tolist() == [0, 0]
    assert unmeasured["predicted_mean"] == 2
    assert scores["is_marker"].tolist() == [False, True, False, True]
    assert scores["n_spots"].tolist() == [3] * 4
    assert scores[["k", "k_used", "fold"]].drop_duplicates().to_numpy().tolist() == [[500, 283, 1]]


def test_gene_lists_do_not_depend_on_the_prediction():
    rng = np.random.default_rng(2)
    observed = rng.random((9, 4))
    reference = {"reference_mean": observed.mean(axis=0), "reference_var": observed.var(axis=0)}
    first, second = (
        score_prediction(prediction(guess, observed, **reference))
        for guess in (rng.random((9, 4)), 100 * rng.random((9, 4)))
    )
    assert first["pcc"].ne(second["pcc"]).all()
    pd.testing.assert_frame_equal(first[["rank_mean", "rank_var"]], second[["rank_mean", "rank_var"]])
    assert first.set_index("rank_mean")["gene"][1] == GENES[observed.sum(axis=0).argmax()]
    assert first.set_index("rank_var")["gene"][1] == GENES[observed.var(axis=0).argmax()]


def test_the_truth_scores_1_in_every_metric_and_repeats_its_own_autocorrelation():
    observed = np.random.default_rng(0).gamma(2, size=(80, 3))
    scores = score_prediction(prediction(observed, observed))
    perfect = {"pcc": 1, "spearman": 1, "explained_variance": 1, "ssim": 1, "rmse": 0}
    for name, value in perfect.items():
        assert scores[name].tolist() == pytest.approx([value] * 3), name
    assert scores["moran_predicted"].tolist() == scores["moran_observed"].tolist()
    assert scores["moran_observed"].abs().min() > 0
