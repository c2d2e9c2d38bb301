"""Claims about mean scores, paired comparisons and the corrections made to them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from handmade import slide_rows, together
from spotwise.constants import ALL_COHORTS
from spotwise.errors import InputError
from spotwise.evaluation import averages
from spotwise.evaluation.gene_sets import MARKER
from spotwise.evaluation.predictor_comparisons import (
    COMPARED_COLUMNS,
    COMPARISON_COLUMNS,
    compare_predictors,
    holm,
    mean_intervals,
    score_blocks,
    signed_ranks,
    write_comparisons,
)
from spotwise.evaluation.score_files import SCORE_COLUMNS, write_scores

DRAWS = 2000


def test_one_gene_gives_the_t_interval_of_its_slides():
    scores, sets = together(slide_rows("STNet", [[0.1], [0.2], [0.6]]))
    row = mean_intervals(scores, sets, 100_000).iloc[0]
    # sd 0.26458, over sqrt(3) 0.15275, times 4.30265, the t quantile of 2 degrees of freedom
    assert row["mean"] == pytest.approx(0.3)
    assert row["ci_low"] == pytest.approx(0.3 - 0.65724, abs=0.006)
    assert row["ci_high"] == pytest.approx(0.3 + 0.65724, abs=0.006)
    assert row[["n_genes", "n_units"]].tolist() == [1, 3]


def test_a_slide_of_which_no_gene_was_drawn_keeps_its_mean():
    """A third of the draws hold no gene of the second slide; were it 0 there, a constant would vary."""
    scores, sets = together(
        slide_rows("STNet", [[0.4, 0.4, 0.4, 0.4], [0.4]])
    )  # B, C and D are not on the second slide
    row = mean_intervals(scores, sets, DRAWS).iloc[0]
    assert row[["mean", "ci_low", "ci_high"]].tolist() == pytest.approx([0.4, 0.4, 0.4])


def test_the_unit_is_what_was_left_out():
    """A patient's slides go together: two slides each are worth as much as one slide with their average."""
    slides = np.random.default_rng(0).uniform(0, 0.5, (6, 8))
    of_patients, sets = together(slide_rows("STNet", slides, fold=[0, 0, 1, 1, 2, 2], protocol="patient"))
    averaged, sets_averaged = together(slide_rows("STNet", slides.reshape(3, 2, 8).mean(axis=1), protocol="patient"))
    two = mean_intervals(of_patients, sets, DRAWS)
    one = mean_intervals(averaged, sets_averaged, DRAWS)
    pd.testing.assert_frame_equal(two, one)
    assert two["n_units"].item() == 3
    slide_by_slide, sets = together(slide_rows("STNet", slides))
    assert mean_intervals(slide_by_slide, sets, DRAWS)["n_units"].item() == 6


def test_means_are_those_of_table_1():
    """Folds of one and of three slides, gene lists that differ, two seeds: the average of averages.mean_table."""
    rng = np.random.default_rng(1)
    parts = []
    for predictor, seeds in (("CMRCNet-50", (0, 1)), ("Ridge", (0,))):
        for seed in seeds:
            slides = [rng.uniform(-0.2, 0.6, n) for n in (6, 4, 8, 5)]
            parts.append(slide_rows(predictor, slides, seed, fold=[0, 1, 1, 1], protocol="patient"))
    scores, sets = together(*parts)
    for name in set(SCORE_COLUMNS).difference(scores):
        scores[name] = "" if name == "note" else 0
    expected = averages.mean_table(scores, predictors=["CMRCNet-50", "Ridge"])[MARKER]
    table = mean_intervals(scores, sets, 100)
    np.testing.assert_allclose(table["mean"], expected, rtol=1e-12)
    assert table["n_genes"].tolist() == [8, 8]


def test_one_unit_has_a_mean_and_no_interval():
    row = mean_intervals(*together(slide_rows("STNet", [[0.1, 0.3]])), DRAWS).iloc[0]
    assert row["mean"] == pytest.approx(0.2)
    assert row[["ci_low", "ci_high", "seed_sd"]].isna().all()


def test_limits_stay_where_correlations_and_their_differences_can_be():
    scores, sets = together(slide_rows("A", [[0.9], [-0.9]]), slide_rows("B", [[-0.9], [0.9]]))
    means = mean_intervals(scores, sets, DRAWS)
    assert means[["ci_low", "ci_high"]].to_numpy().tolist() == [[-1, 1], [-1, 1]]
    assert compare_predictors(scores, sets, DRAWS)[["ci_low", "ci_high"]].to_numpy().tolist() == [[-2, 2]]


def test_all_cohorts_are_their_mean_with_pooled_degrees_of_freedom():
    scores, sets = together(
        slide_rows("STNet", [[0.05], [0.1], [0.3]], cohort="READ"),
        slide_rows("STNet", [[-0.05], [0.25]], cohort="SKCM"),
    )
    table = mean_intervals(scores, sets, 200_000)
    assert table["cohort"].tolist() == ["READ", "SKCM", ALL_COHORTS]
    row = table.iloc[2]
    assert row["mean"] == pytest.approx((0.15 + 0.1) / 2)
    assert row[["n_genes", "n_units"]].tolist() == [2, 5]
    first, second = 0.0175 / 3, 0.045 / 2  # variances of the two means
    freedom = (first + second) ** 2 / (first**2 / 2 + second**2 / 1)
    half = np.sqrt((first + second) / 4) * stats.t.ppf(0.975, freedom)
    assert row["ci_high"] - row["mean"] == pytest.approx(half, rel=0.01)


def test_all_cohorts_take_each_protocol_by_itself_and_no_set_that_one_lacks():
    parts = [
        slide_rows("STNet", [[0.1], [0.2]], cohort=cohort, protocol=protocol)
        for cohort, protocol in (("READ", "paper"), ("READ", "patient"), ("PSC", "paper"))
    ]
    scores, sets = together(*parts)
    sets["of_READ"] = sets["marker"] & scores["cohort"].eq("READ")
    sets["empty"] = sets["marker"] & False
    table = mean_intervals(scores, sets, DRAWS)
    assert table[["cohort", "protocol", "gene_set"]].to_numpy().tolist() == [
        ["READ", "paper", "marker"],
        ["READ", "paper", "of_READ"],
        ["READ", "patient", "marker"],
        ["READ", "patient", "of_READ"],
        ["PSC", "paper", "marker"],
        [ALL_COHORTS, "paper", "marker"],
    ]


def test_a_predictor_may_stand_in_some_cohorts_and_protocols_alone():
    """As predictions of another tool may; the mean over cohorts is of the predictors that all of them have."""
    rng = np.random.default_rng(5)
    sections = [("READ", "paper"), ("PSC", "paper"), ("READ", "patient")]
    everywhere = [
        slide_rows("A", rng.uniform(0, 0.5, (3, 5)), cohort=cohort, protocol=protocol) for cohort, protocol in sections
    ]
    late = slide_rows("Tool", rng.uniform(0, 0.5, (3, 5)), cohort="READ", protocol="patient", kind="external")
    here = slide_rows("Local", rng.uniform(0, 0.5, (3, 5)), cohort="PSC", protocol="paper", kind="external")
    table = mean_intervals(*together(*everywhere, late, here), DRAWS)
    found = table[["cohort", "protocol", "predictor"]].to_numpy().tolist()
    assert found == [
        ["READ", "paper", "A"],
        ["PSC", "paper", "A"],
        ["PSC", "paper", "Local"],
        ["READ", "patient", "A"],
        ["READ", "patient", "Tool"],
        [ALL_COHORTS, "paper", "A"],
    ]
    alone = mean_intervals(*together(*everywhere), DRAWS)
    pd.testing.assert_frame_equal(table[table["predictor"].eq("A")].reset_index(drop=True), alone)
    pairs = compare_predictors(*together(*everywhere, late, here), DRAWS)
    assert pairs[["cohort", "protocol", "first", "second"]].to_numpy().tolist() == [
        ["PSC", "paper", "A", "Local"],
        ["READ", "patient", "A", "Tool"],
    ]


def test_an_interval_does_not_depend_on_the_other_predictors():
    rng = np.random.default_rng(2)
    parts = [slide_rows(name, rng.uniform(0, 0.5, (4, 10))) for name in "ABC"]
    alone = mean_intervals(*together(parts[1]), DRAWS)
    among = mean_intervals(*together(*parts), DRAWS)
    pd.testing.assert_frame_equal(among[among["predictor"].eq("B")].reset_index(drop=True), alone)


def test_a_predictor_without_a_score_that_others_have_is_named():
    scores, _ = together(slide_rows("A", [[0.1, 0.2], [0.3, 0.4]]), slide_rows("B", [[0.1, 0.2], [0.3]]))
    sets = {"marker": scores["is_marker"]}
    with pytest.raises(InputError, match="scores: B: found no score for B on S1"):
        compare_predictors(scores, sets, DRAWS)


def test_a_constant_lead_is_certain_because_both_see_the_same_draws():
    slides = np.random.default_rng(3).uniform(-0.2, 0.5, (4, 10))
    row = compare_predictors(*together(slide_rows("A", slides + 0.1), slide_rows("B", slides)), DRAWS).iloc[0]
    assert row[["difference", "ci_low", "ci_high"]].to_numpy(float) == pytest.approx([0.1, 0.1, 0.1])
    assert row["effect_size"] == 1


def test_the_interval_of_a_difference_is_that_of_the_differences():
    rng = np.random.default_rng(4)
    first, second = rng.uniform(0, 0.5, (2, 4, 10))
    pair = compare_predictors(*together(slide_rows("A", first), slide_rows("B", second)), DRAWS).iloc[0]
    mean = mean_intervals(*together(slide_rows("A", first - second)), DRAWS).iloc[0]
    expected = mean[["mean", "ci_low", "ci_high"]].to_numpy(float)
    assert pair[["difference", "ci_low", "ci_high"]].to_numpy(float) == pytest.approx(expected)


def test_methods_are_compared_with_methods_and_with_controls_but_not_with_bounds():
    kinds = {"TrainMean": "control", "B": "method", "Oracle": "control", "A": "method", "Coordinates": "control"}
    kinds["NoiseCeiling"] = "control"
    slides = np.random.default_rng(5).uniform(0, 0.5, (2, 3))
    table = compare_predictors(*together(*(slide_rows(name, slides, kind=kind) for name, kind in kinds.items())), DRAWS)
    assert set(zip(table["first"], table["second"], strict=True)) == {
        ("B", "A"),
        ("B", "TrainMean"),
        ("A", "TrainMean"),
        ("B", "Coordinates"),
        ("A", "Coordinates"),
    }
    assert len(table) == 5


def test_a_lone_method_gives_an_empty_table_with_its_columns():
    table = compare_predictors(*together(slide_rows("A", [[0.1], [0.2]])), DRAWS)
    assert table.empty
    assert list(table) == COMPARISON_COLUMNS


def test_signed_ranks_equal_the_hand_worked_example():
    # ranks 1 to 5; the second is against: rank sums 13 and 2. Of 32 signs, 3 give a sum of at most 2: none, 1 and 2
    # alone; as many on the other side
    worked = signed_ranks(np.array([[0.01], [-0.02], [0.03], [0.04], [0.05]]))
    assert worked["statistic"] == [2]
    assert worked["p"] == pytest.approx([6 / 32])
    assert worked["effect_size"] == pytest.approx([(13 - 2) / 15])


def test_genes_that_do_not_differ_are_left_out():
    differences = np.array([[0.0, 0.0], [0.2, 0.0], [-0.1, 0.0], [0.3, 0.0]])
    worked = signed_ranks(differences)
    # ranks 2, -1, 3: sums 5 and 1; of 8 signs, 2 give a sum of at most 1, and 2 on the other side
    assert worked["statistic"].tolist() == [1, 0]
    assert worked["p"] == pytest.approx([4 / 8, 1])
    assert worked["effect_size"] == pytest.approx([4 / 6, 0])


@pytest.mark.parametrize(("genes", "method"), [(9, "exact"), (50, "exact"), (51, "asymptotic"), (120, "asymptotic")])
def test_many_pairs_at_once_equal_one_by_one(genes, method):
    differences = np.random.default_rng(6).normal(0.2, 1, (genes, 20))
    differences[:4, 3] = 0
    worked = signed_ranks(differences)
    for column in range(20):
        alone = differences[:, column][differences[:, column] != 0]
        expected = stats.wilcoxon(alone, method=method)
        assert worked["p"][column] == pytest.approx(expected.pvalue)
        assert worked["statistic"][column] == pytest.approx(expected.statistic)


def test_the_test_is_over_genes_averaged_over_seeds_slides_and_folds():
    """Two patients, one with three slides: a gene's slides are averaged before its patients."""
    slides = [[0.3, 0.1], [0.0, 0.2], [0.1, 0.3], [0.2, 0.1]]  # differences: gene A 0.3, then 0.1; gene B 0.1, then 0.2
    fold = [0, 1, 1, 1]
    zeros = np.zeros((4, 2))
    again = [[value + 0.2 for value in slide] for slide in slides]  # a second seed, 0.2 higher: the mean is 0.1 higher
    scores, sets = together(
        slide_rows("A", slides, 0, fold, protocol="patient"),
        slide_rows("A", again, 1, fold, protocol="patient"),
        slide_rows("B", zeros, 0, fold, protocol="patient"),
    )
    _, blocks = next(score_blocks(scores, sets))
    np.testing.assert_allclose(blocks[0].genes, [[(0.3 + 0.1) / 2 + 0.1, 0], [(0.1 + 0.2) / 2 + 0.1, 0]])


def test_all_cohorts_test_the_genes_of_each():
    scores, sets = together(
        *(slide_rows("A", [[0.125, 0.25, 0.5]] * 2, cohort=cohort) for cohort in ("READ", "SKCM")),
        *(slide_rows("B", [[0.0, 0.375, 0.0]] * 2, cohort=cohort) for cohort in ("READ", "SKCM")),
    )
    row = compare_predictors(scores, sets, DRAWS).set_index("cohort").loc[ALL_COHORTS]
    # differences 0.125, -0.125, 0.5 twice: ranks 2.5 four times, 5.5 twice: 5 + 11 against 5
    assert row["n_genes"] == 6
    assert row["statistic"] == 5
    assert row["effect_size"] == pytest.approx((16 - 5) / 21)


def test_holm_equals_the_hand_worked_example():
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 gives 0.02, 0.03, 0.06, 0.04; none below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == pytest.approx([1, 1])


def test_holm_corrects_over_all_pairs_of_one_cohort_protocol_and_gene_set():
    rng = np.random.default_rng(8)
    parts = [
        slide_rows(name, rng.uniform(0, 0.3, (3, 20)) + lead, cohort=cohort, protocol=protocol)
        for cohort in ("READ", "SKCM")
        for protocol in ("paper", "patient")
        for name, lead in (("A", 0.2), ("B", 0.1), ("C", 0.05), ("D", 0.0))
    ]
    scores, sets = together(*parts)
    sets["half"] = sets["marker"] & scores["gene"].lt("K")
    table = compare_predictors(scores, sets, 100)
    families = table.groupby(["cohort", "protocol", "gene_set"])
    assert len(families) == 12
    for _, family in families:
        assert len(family) == 6
        expected = multipletests(family["p"], method="holm")[1]
        np.testing.assert_allclose(family["p_holm"], expected)
    assert (table["p_holm"] > table["p"]).any()


def test_seeds_have_their_own_standard_deviation():
    scores, sets = together(
        slide_rows("A", [[0.3], [0.3]], seed=0),
        slide_rows("A", [[0.5], [0.5]], seed=1),
        slide_rows("B", [[0.1], [0.1]], seed=0),
        slide_rows("B", [[0.2], [0.6]], seed=1),
        slide_rows("C", [[0.2], [0.2]], seed=0),
        slide_rows("D", [[0.0], [0.1]], seed=0),
    )
    pairs = compare_predictors(scores, sets, DRAWS).set_index(["first", "second"])["seed_sd"]
    assert pairs["A", "B"] == pytest.approx(np.std([0.2, 0.1], ddof=1))
    assert pairs["A", "C"] == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert pairs["B", "C"] == pytest.approx(np.std([-0.1, 0.2], ddof=1))
    assert np.isnan(pairs["C", "D"])
    means = mean_intervals(scores, sets, DRAWS).set_index("predictor")["seed_sd"]
    assert means[["A", "B"]].tolist() == pytest.approx([np.std([0.3, 0.5], ddof=1), np.std([0.1, 0.4], ddof=1)])
    assert means[["C", "D"]].isna().all()


def test_only_listed_and_named_genes_are_read(tmp_path):
    scores = slide_rows("A", [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]).assign(is_marker=False)
    scores["rank_mean"], scores["rank_var"] = [1, 2, 3, 4, 5, 0], [5, 4, 3, 2, 1, 0]
    scores["is_measured"] = [True] * 5 + [False]
    write_scores(scores.assign(rmse=1.0, note=""), tmp_path / "A.parquet")
    kept = averages.read_listed([tmp_path / "A.parquet"] * 2, (1,), COMPARED_COLUMNS, ["C", "F"])
    assert kept["gene"].tolist() == ["A", "C", "E"] * 2  # the top gene of each list, and C by name; F is not measured
    assert list(kept) == COMPARED_COLUMNS


def test_written_tables_keep_small_p_values_and_come_out_the_same(tmp_path):
    rng = np.random.default_rng(10)
    scores, sets = together(
        slide_rows("A", rng.uniform(0.5, 0.6, (3, 26))), slide_rows("B", rng.uniform(0, 0.1, (3, 26)))
    )
    for name in ("one.csv", "two.csv"):
        write_comparisons(compare_predictors(scores, sets, DRAWS), tmp_path / name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    back = pd.read_csv(tmp_path / "one.csv")
    assert list(back) == COMPARISON_COLUMNS
    assert back["p"].item() == pytest.approx(2 / 2**26, rel=1e-5)
