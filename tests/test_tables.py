import numpy as np
import pandas as pd
import pytest

from spotwise import averages, metrics, tables


def rows(predictor, fold, seed, sample, pcc, kind="method", protocol="paper", cohort="READ", k=0, k_used=0, note=""):
    """One file of a panel A to E: A, B are the top 2 HEG; B, C the top 2 HVG; D is a marker; E is not measured."""
    return pd.DataFrame(
        {
            "cohort": cohort,
            "protocol": protocol,
            "predictor": predictor,
            "method": predictor.split("-")[0],
            "kind": kind,
            "k": k,
            "k_used": k_used,
            "fold": fold,
            "seed": seed,
            "sample": sample,
            "note": note,
            "gene": list("ABCDE"),
            "pcc": [*pcc, np.nan],
            "rmse": 1.0,
            "observed_mean": 1.0,
            "observed_var": 1.0,
            "predicted_mean": 1.0,
            "predicted_var": 1.0,
            "rank_mean": [1, 2, 3, 4, 0],
            "rank_var": [4, 1, 2, 3, 0],
            "is_marker": [False, False, False, True, True],
            "is_measured": [True, True, True, True, False],
            "is_constant": [value == 0 for value in pcc] + [False],
            "n_spots": 100,
        }
    )[list(metrics.SCORE_COLUMNS)]


@pytest.fixture
def scores():
    return pd.concat(
        [
            # fold 0 has two slides, fold 1 has one; two seeds. HEG (A, B)   HVG (B, C)   marker (D)
            rows("CMRCNet-50", 0, 0, "S1", [0.2, 0.4, 0.6, 0.1], k=50, k_used=50),  # 0.3    0.5    0.1
            rows("CMRCNet-50", 0, 0, "S2", [0.4, 0.6, 0.0, 0.3], k=50, k_used=40),  # 0.5    0.3    0.3
            rows("CMRCNet-50", 1, 0, "S3", [0.8, 0.8, 0.4, 0.5], k=50, k_used=50),  # 0.8    0.6    0.5
            rows("CMRCNet-50", 0, 1, "S1", [0.4, 0.4, 0.4, 0.1], k=50, k_used=50),  # 0.4    0.4    0.1
            rows("CMRCNet-50", 0, 1, "S2", [0.8, 0.8, 0.8, 0.5], k=50, k_used=40),  # 0.8    0.8    0.5
            rows("CMRCNet-50", 1, 1, "S3", [0.4, 0.4, 0.0, 0.7], k=50, k_used=50),  # 0.4    0.2    0.7
        ]
    )


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


def test_empty_marker_set_is_nan_and_printed_as_a_dash(scores):
    table = averages.mean_table(scores.assign(is_marker=False), top=(2,))
    assert np.isnan(table["marker"].iloc[0])
    assert table["markers_found"].iloc[0] == 0
    assert "| – |" in tables.to_markdown(table)
    assert "–" in tables.console(table)


def test_markers_outside_the_panel_are_listed(scores):
    table = averages.mean_table(scores, top=(2,), markers={"READ": ["D", "RND"], "COAD": ["X"]})
    assert table[["markers_found", "markers_listed", "markers_missing"]].iloc[0].tolist() == [1, 3, "E, RND"]
    assert "* Markers: 1 of 3 measured; missing: E, RND" in tables.to_markdown(table)


def test_gene_sets_depend_on_the_truth_only(scores):
    sets = averages.gene_sets(scores, (2,))
    shuffled = scores.assign(pcc=-scores["pcc"], predicted_mean=9.0, predicted_var=-9.0, rmse=0.0, is_constant=True)
    for name, mask in averages.gene_sets(shuffled, (2,)).items():
        pd.testing.assert_series_equal(mask, sets[name])
    assert set(scores.loc[sets["HEG_top2"], "gene"]) == {"A", "B"}
    assert set(scores.loc[sets["HVG_top2"], "gene"]) == {"B", "C"}
    assert set(scores.loc[sets["marker"], "gene"]) == {"D"}


def arena(values, **options):
    """One file per predictor with the same PCC for every gene."""
    files = [
        rows(name, 0, 0, "S1", [value] * 4, kind="control" if name in ("TrainMean", "Oracle") else "method", **options)
        for name, value in values.items()
    ]
    return pd.concat(files)


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


def line_of(text, name):
    return next(line for line in text.splitlines() if name in line)


def test_best_method_is_bold_and_second_underlined_but_never_a_control():
    table = averages.mean_table(arena({"A": 0.2, "B": 0.4, "C": 0.3, "Oracle": 0.9}), top=(2,))
    text = tables.to_markdown(table)
    assert line_of(text, "| B ") == "| B | **0.400** | **0.400** | **0.400** | 0 of 4 |"
    assert line_of(text, "| C ") == "| C | <u>0.300</u> | <u>0.300</u> | <u>0.300</u> | 0 of 4 |"
    assert line_of(text, "| A ") == "| A | 0.200 | 0.200 | 0.200 | 0 of 4 |"
    assert line_of(text, "| *Oracle*") == "| *Oracle* | 0.900 | 0.900 | 0.900 | 0 of 4 |"
    assert line_of(tables.console(table), "  B ").count("*") == 3
    assert "*" not in line_of(tables.console(table), "(Oracle)")


def test_methods_level_as_printed_share_a_place():
    text = tables.to_markdown(averages.mean_table(arena({"A": 0.30001, "B": 0.30002, "C": 0.1}), top=(2,)))
    assert line_of(text, "| A ").count("**0.300**") == line_of(text, "| B ").count("**0.300**") == 3
    assert line_of(text, "| C ").count("<u>0.100</u>") == 3


def test_ranks_are_per_cohort_and_protocol():
    scores = pd.concat([arena({"A": 0.5, "B": 0.4}), arena({"A": 0.1, "B": 0.2}, protocol="patient")])
    paper, patient = tables.to_markdown(averages.mean_table(scores, top=(2,))).split("### `patient`")
    assert "| A | **0.500**" in paper
    assert "| B | **0.200**" in patient


def test_remarks_tell_of_small_banks_small_panels_and_notes():
    scores = pd.concat(
        [
            arena({"CMRCNet-500": 0.3}, k=500, k_used=283),
            arena({"BLEEP-50": 0.2}, k=50, k_used=50, note="encoder without pretrained weights"),
        ]
    )
    table = averages.mean_table(scores, top=(2, 50))
    text = tables.to_markdown(table)
    assert "* CMRCNet-500: bank smaller than K: whole bank used (k_used=283)" in text
    assert "BLEEP-50: bank smaller" not in text
    assert "* BLEEP-50: encoder without pretrained weights" in text
    assert "* HEG top 50: 4 measured panel genes, all of them taken" in text
    assert "HEG top 2: 4" not in text
    assert "* 1 fold, 1 seed" in text
    assert "whole bank used (k_used=283)" in tables.console(table)


def test_no_minus_at_a_rounded_zero():
    assert "-0.000" not in tables.to_markdown(averages.mean_table(arena({"A": -0.0001}), top=(2,)))


def test_written_table_reads_back(scores, tmp_path):
    table = averages.mean_table(scores, top=(2,))
    tables.write_table(table, tmp_path / "table1.csv", tmp_path / "table1.md")
    back = pd.read_csv(tmp_path / "table1.csv", keep_default_na=False, na_values={"marker": [""]})
    pd.testing.assert_frame_equal(back, table, check_exact=False, atol=1e-6, check_dtype=False)
    assert (tmp_path / "table1.md").read_text() == tables.to_markdown(table)
