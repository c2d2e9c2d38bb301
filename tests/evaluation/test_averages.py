import numpy as np
import pandas as pd
import pytest

from handmade import arena, genes_of, two_folds_two_seeds
from spotwise.errors import InputError
from spotwise.evaluation import averages
from spotwise.evaluation.score_files import write_scores


@pytest.fixture
def scores():
    return two_folds_two_seeds()


def test_table1_equals_the_hand_worked_averages(scores):
    row = averages.mean_table(scores, top=(2,)).iloc[0]
    # means over slides, (fold, seed): HEG (0,0) 0.4, (1,0) 0.8, (0,1) 0.6, (1,1) 0.4
    # over folds: seed 0 0.6, seed 1 0.5; over seeds: fold 0 0.5, fold 1 0.6
    assert row["HEG_top2"] == pytest.approx(0.55)
    assert row["HEG_top2_sd_folds"] == pytest.approx(0.1 / np.sqrt(2))
    assert row["HEG_top2_sd_seeds"] == pytest.approx(0.1 / np.sqrt(2))
    # HVG (0,0) 0.4, (1,0) 0.6, (0,1) 0.6, (1,1) 0.2: seeds 0.5, 0.4; folds 0.5, 0.4
    assert row["HVG_top2"] == pytest.approx(0.45)
    assert row["HVG_top2_sd_folds"] == pytest.approx(0.1 / np.sqrt(2))
    # marker (0,0) 0.2, (1,0) 0.5, (0,1) 0.3, (1,1) 0.7: seeds 0.35, 0.5; folds 0.25, 0.6. E is flagged but unmeasured
    assert row["marker"] == pytest.approx(0.425)
    assert row["marker_sd_folds"] == pytest.approx(0.35 / np.sqrt(2))
    assert row["marker_sd_seeds"] == pytest.approx(0.15 / np.sqrt(2))
    # constant genes: (0,0) mean of 0 and 1, (1,0) 0, (0,1) 0, (1,1) 1: seeds 0.25, 0.5
    assert row["n_constant"] == pytest.approx(0.375)
    assert row["n_genes"] == 4
    assert row[["n_folds", "n_seeds", "k", "k_used_min"]].tolist() == [2, 2, 50, 40]
    assert row[["markers_found", "markers_listed", "markers_missing"]].tolist() == [1, 2, "E"]


def test_a_slide_counts_once_however_many_slides_its_fold_has(scores):
    only_s1 = scores[scores["sample"].ne("S2")]
    row = averages.mean_table(only_s1, top=(2,)).iloc[0]
    assert row["HEG_top2"] == pytest.approx(np.mean([0.3, 0.8, 0.4, 0.4]))


def test_spread_of_one_fold_or_seed_is_nan(scores):
    row = averages.mean_table(scores[scores["fold"].eq(0) & scores["seed"].eq(0)], top=(2,)).iloc[0]
    assert row.filter(regex="_sd_").isna().all()
    assert row["HEG_top2"] == pytest.approx(0.4)


def test_markers_outside_the_panel_are_listed(scores):
    table = averages.mean_table(scores, top=(2,), markers={"READ": ["D", "RND"], "COAD": ["X"]})
    assert table[["markers_found", "markers_listed", "markers_missing"]].iloc[0].tolist() == [1, 3, "E, RND"]


def test_rows_follow_the_config_and_controls_come_last():
    scores = pd.concat(
        [
            arena({"TrainMean": 0.0, "STNet": 0.2, "BLEEP-50": 0.3}, cohort=cohort, protocol=protocol)
            for protocol in ("patient", "paper")
            for cohort in ("SKCM", "READ")
        ]
    )
    table = averages.mean_table(
        scores, top=(2,), cohorts=["READ", "SKCM", "COAD"], predictors=["TrainMean", "BLEEP-50"]
    )
    assert table[["cohort", "protocol"]].drop_duplicates().to_numpy().tolist() == [
        ["READ", "paper"],
        ["READ", "patient"],
        ["SKCM", "paper"],
        ["SKCM", "patient"],
    ]
    assert table["predictor"].tolist() == ["BLEEP-50", "STNet", "TrainMean"] * 4
    assert table["kind"].tolist()[:3] == ["method", "method", "control"]


def test_a_genes_average_goes_over_slides_then_folds_then_seeds(scores):
    genes = averages.gene_table(scores).set_index("gene")
    # A: (fold 0, seed 0) 0.3, (1, 0) 0.8, (0, 1) 0.6, (1, 1) 0.4: seeds 0.55, 0.5; folds 0.45, 0.6
    assert genes.loc["A", ["pcc", "pcc_sd_folds", "pcc_sd_seeds"]].tolist() == pytest.approx(
        [0.525, 0.15 / np.sqrt(2), 0.05 / np.sqrt(2)]
    )
    # C is constant on S2 with seed 0 and on S3 with seed 1: one slide of three, on average over seeds
    assert genes["n_constant"].tolist() == [0, 0, 1, 0, 0]
    assert genes["n_slides"].tolist() == [3, 3, 3, 3, 0]
    assert np.isnan(genes.loc["E", "pcc"])
    assert genes.loc["A", ["of_slides", "n_folds", "n_seeds", "k", "k_used_min"]].tolist() == [3, 2, 2, 50, 40]


def test_a_gene_is_averaged_over_the_slides_that_measure_it():
    scores = pd.concat(
        [
            genes_of("STNet", {"A": 0.2}, 0, sample="S1"),
            genes_of("STNet", {"A": 0.9}, 0, sample="S2", measured={"A": False}),
            genes_of("STNet", {"A": 0.6}, 1, sample="S3"),
            genes_of("STNet", {"B": 0.5}, 2, sample="S4"),  # a fold whose panel lacks A
        ]
    )
    gene = averages.gene_table(scores).set_index("gene").loc["A"]
    assert gene[["pcc", "n_slides", "of_slides"]].tolist() == pytest.approx([0.4, 2, 4])
    assert gene["pcc_sd_folds"] == pytest.approx(0.4 / np.sqrt(2))


COHORTS, PREDICTORS = ["READ", "SKCM"], ["CMRCNet-50", "STNet"]


def scores_of(scores, cohort, predictor):
    kind = "control" if predictor == "Oracle" else "method"
    factor = {"Oracle": 1.0, "STNet": 0.5, "CMRCNet-50": 0.2}[predictor]
    return scores.assign(cohort=cohort, predictor=predictor, kind=kind, pcc=scores["pcc"] * factor)


@pytest.mark.parametrize(
    "in_one_file", [(["Oracle"], ["STNet"], ["CMRCNet-50"]), (["STNet", "CMRCNet-50"], ["Oracle"])]
)
def test_files_read_one_by_one_give_the_averages_of_all_together(scores, tmp_path, in_one_file):
    everything, paths = [], []
    for cohort in ("SKCM", "READ"):
        for names in in_one_file:
            file = pd.concat([scores_of(scores, cohort, name) for name in names])
            everything.append(file)
            paths.append(tmp_path / f"{cohort}_{names[0]}.parquet")
            write_scores(file, paths[-1])
    together = pd.concat(everything)
    order = {"cohorts": COHORTS, "predictors": PREDICTORS}
    markers = {"READ": ["D", "X"], "SKCM": []}
    means, genes = averages.read_averages(paths, [2, 3], markers, PREDICTORS)
    pd.testing.assert_frame_equal(means, averages.mean_table(together, [2, 3], **order, markers=markers))
    pd.testing.assert_frame_equal(genes, averages.in_order(averages.gene_table(together), **order))
    assert means["predictor"].tolist() == ["CMRCNet-50", "STNet", "Oracle"] * 2
    assert genes["gene"].tolist() == list("ABCDE") * 6


def test_a_predictor_in_two_files_is_refused(scores, tmp_path):
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for path in paths:
        write_scores(scores_of(scores, "READ", "STNet"), path)
    with pytest.raises(InputError, match=r"two\.parquet: predictor: found scores of READ, paper, STNet, as in .*one"):
        averages.read_averages(paths, [2], {"READ": []}, PREDICTORS)


def test_listed_genes_of_some_predictors_come_in_the_order_of_these(scores, tmp_path):
    for names in (["Oracle", "STNet"], ["CMRCNet-50"]):
        file = pd.concat([scores_of(scores, cohort, name) for cohort in ("SKCM", "READ") for name in names])
        write_scores(file, tmp_path / f"{names[0]}.parquet")
    paths = [tmp_path / "Oracle.parquet", tmp_path / "CMRCNet-50.parquet"]
    some = averages.read_listed(paths, [2], predictors=PREDICTORS)
    runs = some[["cohort", "predictor"]].drop_duplicates().to_numpy().tolist()
    assert runs == [[cohort, name] for cohort in ("SKCM", "READ") for name in PREDICTORS]
    assert some.groupby(["cohort", "predictor"])["gene"].apply(list).map(sorted).tolist() == [sorted("ABCD" * 6)] * 4
    everything = averages.read_listed(paths, [2])
    assert everything["predictor"].unique().tolist() == ["Oracle", "STNet", "CMRCNet-50"]
    assert len(everything) == 6 * 6 * 4
