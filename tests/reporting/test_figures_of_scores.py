"""Claims about the figures that are drawn from scores, read back from what they draw."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy.stats import wilcoxon

from drawing import misplaced
from handmade import genes_of, rows, two_folds_two_seeds
from spotwise.evaluation.predictor_comparisons import compare_predictors
from spotwise.reporting.figures import (
    boxplot,
    ceiling_scatter,
    gene_bars,
    learning_curves,
    overview,
    profiles,
    protocol_gap,
    style,
    top_k_curve,
)

RUN = {
    "CMRCNet-50": ("CMRCNet", "retrieval"),
    "BLEEP-50": ("BLEEP", "retrieval"),
    "Mine": ("Mine", "regression"),
    "TrainMean": ("TrainMean", "control"),
    "NoiseCeiling": ("NoiseCeiling", "control"),
}
LOOKS = style.predictor_looks(RUN)


def scores_of(**options):
    """Five predictors on two slides, with PCC that differ in all genes."""
    rng = np.random.default_rng(4)
    parts = []
    for name, (_, kind) in RUN.items():
        kind = "control" if kind == "control" else "method"
        for fold, sample in enumerate(("S1", "S2")):
            pcc = np.zeros(4) if name == "TrainMean" else rng.uniform(-0.2, 0.5, 4)
            parts.append(rows(name, fold, 0, sample, pcc, kind=kind, **options))
    scores = pd.concat(parts, ignore_index=True)
    for column in ("observed_mean", "observed_var", "predicted_mean", "predicted_var"):
        scores[column] = rng.uniform(0.01, 2, len(scores))
    return scores


def comparison(
    first, second, difference, p_holm, p=0.0, cohort="READ", protocol="paper", gene_set="HEG_top2", effect_size=None
):
    return {"cohort": cohort, "protocol": protocol, "gene_set": gene_set, "first": first, "second": second} | {
        "difference": difference,
        "effect_size": np.sign(difference) * 0.5 if effect_size is None else effect_size,
        "p": p,
        "p_holm": p_holm,
    }


NONE = pd.DataFrame([comparison("CMRCNet-50", "BLEEP-50", 0.1, 0.9)])


# --- Fig. 2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "mark"), [(0.05, ""), (0.049, "*"), (0.01, "*"), (0.0099, "**"), (0.001, "**"), (0.0009, "***"), (np.nan, "")]
)
def test_stars_follow_the_corrected_p(p, mark):
    assert overview.stars(p) == mark


def test_names_that_look_missing_keep_their_stars(tmp_path):
    table = pd.DataFrame([comparison("NA", "None", 0.1, 0.001, cohort="null")])
    table.to_csv(tmp_path / "comparisons.csv", index=False)
    read = overview.read_comparisons(tmp_path / "comparisons.csv")
    assert overview.marks(read, "null", "paper", "HEG_top2", "None") == overview.marks(
        table, "null", "paper", "HEG_top2", "None"
    )
    assert overview.marks(read, "null", "paper", "HEG_top2", "None")["NA"].endswith("**")


def test_boxes_hold_the_genes_that_the_signed_rank_test_compares():
    scores = scores_of()
    scores = scores[scores["is_measured"]]
    table = compare_predictors(scores, {"all": scores["is_measured"]}, 100)
    boxes = overview.gene_means(scores).unstack("gene")
    assert len(table) == 6  # three pairs of methods, and each of them with TrainMean
    for row in table.itertuples():
        assert wilcoxon(boxes.loc[row.first] - boxes.loc[row.second]).statistic == row.statistic


def test_marks_say_whether_the_other_is_better_or_worse_than_the_reference():
    table = pd.DataFrame(
        [
            comparison("CMRCNet-50", "Worse", 0.1, 0.02),
            comparison("CMRCNet-50", "Better", -0.1, 0.0002),
            comparison("Ahead", "CMRCNet-50", 0.2, 0.004),
            comparison("Behind", "CMRCNet-50", -0.2, 0.04),
            comparison("CMRCNet-50", "Uncorrected", 0.3, 0.06, p=0.0001),
            comparison("CMRCNet-50", "Untested", 0.3, np.nan),
            comparison("CMRCNet-50", "BetterMeanWorseRanks", -0.01, 0.001, effect_size=0.3),
            comparison("Worse", "Better", -0.2, 0.0001),
            comparison("CMRCNet-50", "ElsewhereInSet", 0.1, 0.0001, gene_set="HVG_top2"),
            comparison("CMRCNet-50", "ElsewhereInCohort", 0.1, 0.0001, cohort="all"),
            comparison("CMRCNet-50", "ElsewhereInProtocol", 0.1, 0.0001, protocol="patient"),
        ]
    )
    assert overview.marks(table, "READ", "paper", "HEG_top2", "CMRCNet-50") == {
        "Worse": "▼*",
        "Better": "▲***",
        "Ahead": "▲**",
        "Behind": "▼*",
    }


def draw_overview(scores, comparisons=NONE, looks=LOOKS, reference="CMRCNet-50", **options):
    return overview.draw_overview(scores, comparisons, looks, reference, 2, **options)


def test_marks_are_in_the_row_of_their_predictor_and_a_worse_one_is_red():
    table = [comparison("CMRCNet-50", "BLEEP-50", 0.1, 0.003), comparison("CMRCNet-50", "Mine", -0.1, 0.03)]
    table += [comparison("CMRCNet-50", "TrainMean", 0.1, 0.2), comparison("CMRCNet-50", "NotDrawn", 0.1, 0.001)]
    fig = draw_overview(scores_of(), pd.DataFrame(table))
    heg, hvg = fig.axes
    names = [label.get_text() for label in heg.get_yticklabels()]
    found = {names[text.get_position()[1]]: (text.get_text(), text.get_color()) for text in heg.texts}
    assert found == {"BLEEP-50": ("▼**", "#B2182B"), "Mine": ("▲*", "black")}
    assert not hvg.texts


def test_no_box_runs_under_the_marks():
    fig = draw_overview(scores_of(), pd.DataFrame([comparison("CMRCNet-50", "BLEEP-50", 0.1, 0.003)]))
    fig.draw_without_rendering()
    ax = fig.axes[0]
    data = max(max(line.get_xdata()) for line in ax.lines if len(line.get_xdata()))
    assert ax.transData.transform((data, 0))[0] < ax.texts[0].get_window_extent().x0


def test_boxes_average_a_gene_over_seeds_then_slides_then_folds():
    fig = draw_overview(two_folds_two_seeds(), looks=style.predictor_looks(RUN, ["CMRCNet-50"]))
    # A: S1 .3, S2 .6, so fold 0 .45; fold 1 .6. B: S1 .4, S2 .7, so .55; .6. C: S1 .5, S2 .4, so .45; .2
    expected = {"HEG": [0.525, 0.575], "HVG": [0.575, 0.325]}
    for ax, pcc in zip(fig.axes, expected.values(), strict=True):
        (median,) = (line for line in ax.lines if line.get_linewidth() == 1.0 and len(line.get_xdata()) == 2)
        assert median.get_xdata()[0] == pytest.approx(np.median(pcc))
        (mean,) = (line for line in ax.lines if line.get_marker() == "D")
        assert mean.get_xdata()[0] == pytest.approx(np.mean(pcc))
        (reference,) = (line for line in ax.lines if line.get_linestyle() == "--")
        assert reference.get_xdata()[0] == pytest.approx(np.mean(pcc))
        (band,) = (patch for patch in ax.patches if to_hex(patch.get_facecolor()) == "#efefef")
        assert (band.get_y(), band.get_height()) == (-0.5, 1)


def test_every_cohort_has_its_column_of_two_panels_in_the_order_of_the_config():
    names = ["IDC", "READ", "COAD", "SKCM", "PSC", "LYMPH", "EXTRA"]
    fig = draw_overview(pd.concat([scores_of(cohort=name) for name in reversed(names)]), cohorts=names)
    titles = np.array([ax.get_title() for ax in fig.axes if ax.get_visible()])
    heg = [title.split("\n")[0] for title in titles if "HEG" in title]
    hvg = [title.split("\n")[0] for title in titles if "HVG" in title]
    assert heg == hvg == names
    assert titles[0] == "IDC\nHEG, 2 genes"


def test_an_overview_refuses_to_mix_protocols():
    with pytest.raises(ValueError, match="the figure shows one protocol, but the scores hold 2"):
        draw_overview(pd.concat([scores_of(), scores_of(protocol="patient")]))


# --- Fig. 3 -----------------------------------------------------------------------------------------------------------


def one_slide(scores):
    return scores[scores["sample"].eq("S1")]


def test_profiles_draw_each_measured_gene_at_its_means_over_seeds():
    first = one_slide(scores_of())
    second = first.assign(seed=1, predicted_mean=first["predicted_mean"] + 1, predicted_var=first["predicted_var"] * 3)
    fig = profiles.draw_profiles(pd.concat([first, second]), LOOKS)
    for row, (true, predicted, change) in enumerate(
        (
            ("observed_mean", "predicted_mean", lambda value: value + 0.5),
            ("observed_var", "predicted_var", lambda v: 2 * v),
        )
    ):
        for place, name in enumerate(LOOKS):
            ax = fig.axes[row * len(LOOKS) + place]
            genes_drawn = first[first["predictor"].eq(name) & first["is_measured"]]
            points, identity = ax.lines
            np.testing.assert_allclose(points.get_xdata(), genes_drawn[true])
            np.testing.assert_allclose(points.get_ydata(), change(genes_drawn[predicted]))
            np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
            ratio = np.median(change(genes_drawn[predicted]) / genes_drawn[true])
            assert ax.get_title().split("\n")[-1] == f"ratio {ratio:.2g}"
            assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_values_too_low_for_the_axes_lie_on_the_edge():
    scores = genes_of("Mine", {f"G{i}": 0.1 for i in range(200)})
    scores["observed_mean"] = [*np.zeros(60), *np.geomspace(0.02, 3, 140)]
    scores["predicted_mean"] = [-1, 0, *np.geomspace(0.3, 5, 198)]
    fig = profiles.draw_profiles(scores, style.predictor_looks(RUN, ["Mine"]))
    ax = fig.axes[0]
    points = ax.lines[0]
    assert ax.get_xlim() == pytest.approx((0.01, 7.5))
    assert ax.get_ylim() == pytest.approx((0.1, 7.5))
    assert points.get_xdata()[0] == pytest.approx(0.01)
    assert tuple(points.get_ydata()[:2]) == pytest.approx((0.1, 0.1))
    expected = np.median(scores["predicted_mean"][60:] / scores["observed_mean"][60:])  # no ratio to nothing
    assert ax.get_title() == f"Mine\nratio {expected:.2g}"


def test_constant_predictions_alone_are_drawn_on_the_edge():
    scores = genes_of("Mine", {f"G{i}": 0.0 for i in range(4)})
    scores["observed_mean"] = scores["observed_var"] = [0.2, 0.3, 0.5, 2.0]
    scores["predicted_mean"], scores["predicted_var"] = 0.4, 0.0
    fig = profiles.draw_profiles(scores, style.predictor_looks(RUN, ["Mine"]))
    mean, variance = fig.axes
    np.testing.assert_allclose(mean.lines[0].get_ydata(), 0.4)
    np.testing.assert_allclose(variance.lines[0].get_ydata(), variance.get_ylim()[0])


def test_a_figure_of_a_slide_refuses_two():
    for draw in (
        profiles.draw_profiles,
        lambda scores, looks: gene_bars.draw_gene_bars(scores, looks, 2),
    ):
        with pytest.raises(ValueError, match="the figure shows one sample, but the scores hold 2"):
            draw(scores_of(), LOOKS)


# --- Supplementary Figs. 4-6 ------------------------------------------------------------------------------------------


def test_bars_are_the_genes_of_the_lists_by_rank_and_constant_ones_are_crossed():
    pcc = {"A": 0.3, "B": -0.2, "C": 0.0, "D": 0.5, "E": 0.9}
    files = [genes_of("CMRCNet-50", pcc, seed=seed, constant=["C"] if seed else []) for seed in (0, 1)]
    files[1]["pcc"] += 0.1
    files.append(genes_of("Mine", {gene: -value for gene, value in pcc.items()}))
    scores = pd.concat(files).assign(rank_mean=[3, 1, 2, 4, 5] * 3, rank_var=[1, 4, 5, 2, 3] * 3)
    fig = gene_bars.draw_gene_bars(scores, style.predictor_looks(RUN, ["Mine", "CMRCNet-50"]), 3)
    mine_heg, cmrcnet_heg, mine_hvg, cmrcnet_hvg = fig.axes
    assert [ax.get_ylabel() for ax in fig.axes] == ["Mine", "CMRCNet-50"] * 2
    for ax, names, values in (
        (mine_heg, None, [0.2, 0.0, -0.3]),
        (cmrcnet_heg, ["B", "C", "A"], [-0.15, 0.05, 0.35]),
        (mine_hvg, None, [-0.3, -0.5, -0.9]),
        (cmrcnet_hvg, ["A", "D", "E"], [0.35, 0.55, 0.95]),
    ):
        assert [bar.get_height() for bar in ax.patches] == pytest.approx(values)
        if names:
            assert [label.get_text() for label in ax.get_xticklabels()] == names
    crosses = [list(line.get_xdata()) for ax in fig.axes for line in ax.lines if line.get_marker() == "x"]
    assert crosses == [[], [1], [], []]


def test_a_bar_label_with_dollar_signs_is_no_mathematics():
    scores = genes_of("Mine", {r"$\frac{$": 0.3, "B": 0.2}).assign(rank_mean=[1, 2], rank_var=[1, 2])
    fig = gene_bars.draw_gene_bars(scores, style.predictor_looks(RUN, ["Mine"]), 2)
    fig.draw_without_rendering()  # as mathematics it could not be drawn
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == [style.plain(r"$\frac{$"), "B"]


# --- K ----------------------------------------------------------------------------------------------------------------


def sweep(method, fold, seed, sample, values, **options):
    """PCC by K of one slide; the last K is the bank."""
    run = {"cohort": "READ", "protocol": "paper", "method": method, "fold": fold, "seed": seed, "sample": sample}
    table = pd.DataFrame({"k": list(values), "bank": max(values), "HEG_top2": list(values.values())})
    return table.assign(**run, HVG_top2=table["HEG_top2"] + 0.1, marker=table["HEG_top2"] + 0.2, **options)


@pytest.fixture
def sweeps():
    return pd.concat(
        [
            sweep("CMRCNet", 0, 0, "S1", {1: 0.1, 50: 0.3, 80: 0}),
            sweep("CMRCNet", 0, 0, "S2", {1: 0.3, 50: 0.5, 80: 0}),
            sweep("CMRCNet", 0, 1, "S1", {1: 0.4, 50: 0.4, 80: 0}),
            sweep("CMRCNet", 0, 1, "S2", {1: 0.4, 50: 0.4, 80: 0}),
            sweep("CMRCNet", 1, 0, "S3", {1: 0.5, 50: 0.7, 100: 0.9, 120: 0}),
            sweep("BLEEP", 0, 0, "S1", {1: 0.0, 50: 0.1, 80: 0}),
        ]
    )


def test_curves_average_slides_then_seeds_then_folds_where_all_folds_are(sweeps):
    folds = top_k_curve.fold_curves(sweeps[sweeps["method"].eq("CMRCNet")], ["HEG_top2"])
    assert folds[["fold", "k", "HEG_top2"]].to_numpy().tolist() == [
        [0, 1, pytest.approx(0.3)],  # seed 0 .2, seed 1 .4
        [0, 50, pytest.approx(0.4)],
        [0, 80, 0],
        [1, 1, 0.5],
        [1, 50, 0.7],
        [1, 100, 0.9],
        [1, 120, 0],
    ]
    mean = top_k_curve.mean_curve(folds)
    assert mean[["k", "HEG_top2"]].to_numpy().tolist() == [[1, pytest.approx(0.4)], [50, pytest.approx(0.55)]]
    alone = top_k_curve.mean_curve(folds[folds["fold"].eq(1)])
    assert alone["k"].tolist() == [1, 50, 100, 120]


def test_neighbour_curves_are_drawn_as_averaged_with_the_configured_k(sweeps):
    looks = style.method_looks(["BLEEP", "CMRCNet", "STNet"])
    fig = top_k_curve.draw_top_k_curves(sweeps, looks, [50, 500], 2)
    heg, hvg, marker = fig.subfigs[0].axes
    assert [ax.get_title() for ax in (heg, hvg, marker)] == ["top 2 HEG", "top 2 HVG", "marker genes"]
    for ax, offset in ((heg, 0), (hvg, 0.1), (marker, 0.2)):
        curves_drawn = {line.get_label(): line for line in ax.lines if line.get_marker() != "None"}
        assert list(curves_drawn) == ["BLEEP", "CMRCNet"]
        assert curves_drawn["CMRCNet"].get_xdata() == pytest.approx([1, 50])
        assert curves_drawn["CMRCNet"].get_ydata() == pytest.approx([0.4 + offset, 0.55 + offset])
        thin = [list(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 0.4]
        assert thin == [[1, 50, 80], [1, 50, 80], [1, 50, 100, 120]]
        dotted = [line.get_xdata()[0] for line in ax.lines if line.get_color() == "0.35"]
        assert dotted == [50]  # 500 is more than any bank
        assert ax.get_xscale() == "log"
    legend = fig.subfigs[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["BLEEP", "CMRCNet"]


def test_many_methods_are_spread_over_rows_with_one_scale(sweeps):
    names = [f"M{i}" for i in range(9)]
    many = pd.concat([sweeps.assign(method=name, HEG_top2=sweeps["HEG_top2"] * i) for i, name in enumerate(names)])
    fig = top_k_curve.draw_top_k_curves(many, style.method_looks(names), [50], 2)
    drawn = [[text.get_text() for text in part.legends[0].get_texts()] for part in fig.subfigs]
    assert drawn == [names[:3], names[3:6], names[6:]]
    assert len({ax.get_ylim() for part in fig.subfigs for ax in part.axes}) == 1


# --- Protocols --------------------------------------------------------------------------------------------------------


def both_protocols():
    """S1 is a patient, S2 and S3 are another: Table 1 would weigh S1 by 1/3 under paper and by 1/2 under patient."""
    pcc = {"S1": (0.9, 0.1), "S2": (0.3, 0.2), "S3": (0.6, 0.3)}
    fold_of = {"paper": {"S1": 0, "S2": 1, "S3": 2}, "patient": {"S1": 0, "S2": 1, "S3": 1}}
    return pd.concat(
        rows("Mine", fold_of[protocol][sample], seed, sample, [values[place] + 0.02 * seed] * 4, protocol=protocol)
        for sample, values in pcc.items()
        for place, protocol in enumerate(("paper", "patient"))
        for seed in (0, 1)
    )


def test_the_gap_weighs_the_slides_of_both_protocols_equally():
    gaps = protocol_gap.slide_gaps(both_protocols(), 2)
    assert list(gaps["gene_set"]) == ["HEG_top2", "HVG_top2", "marker"]
    for row in gaps.itertuples():
        assert (row.cohort, row.predictor) == ("READ", "Mine")
        assert (row.paper, row.patient, row.gap) == pytest.approx((0.61, 0.21, 0.4))


def test_slides_and_cohorts_of_one_protocol_are_no_gap():
    scores = both_protocols()
    lonely = rows("Mine", 3, 0, "S4", [0.9] * 4)
    other = rows("Mine", 0, 0, "P1", [0.9] * 4, cohort="PSC")
    pd.testing.assert_frame_equal(
        protocol_gap.slide_gaps(pd.concat([scores, lonely, other]), 2), protocol_gap.slide_gaps(scores, 2)
    )
    with pytest.raises(ValueError, match="no cohort has slides that both protocols test"):
        protocol_gap.draw_protocol_gap(other, LOOKS, 2)


@pytest.mark.parametrize("cohorts", [["READ"], ["SKCM", "READ"]])
def test_dumbbells_join_both_protocols(cohorts):
    own = both_protocols()
    both = pd.concat(
        [own, own.assign(predictor="TrainMean", kind="control", pcc=own["pcc"].where(own["pcc"].isna(), 0))]
    )
    fig = protocol_gap.draw_protocol_gap(
        pd.concat([both.assign(cohort=name) for name in cohorts]), LOOKS, 2, cohorts=cohorts
    )
    panels = {tuple(ax.get_title().split("\n")): ax for ax in fig.axes}
    assert set(panels) == {(name, kind) for name in cohorts for kind in ("top 2 HEG", "top 2 HVG", "marker genes")}
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names == ["Mine", "TrainMean"]
    for ax in panels.values():
        for empty, expected in ((False, {"Mine": 0.61, "TrainMean": 0}), (True, {"Mine": 0.21, "TrainMean": 0})):
            points = (line for line in ax.lines if line.get_marker() == "o")
            points = [line for line in points if (line.get_markerfacecolor() == "white") is empty]
            drawn = {names[line.get_ydata()[0]]: line.get_xdata()[0] for line in points}
            assert drawn == pytest.approx(expected)
        assert {names[text.get_position()[1]]: text.get_text() for text in ax.texts} == {
            "Mine": "+0.40",
            "TrainMean": "0.00",
        }


def test_a_cohort_without_markers_has_a_panel_less():
    own = both_protocols()
    without = own.assign(cohort="SKCM", is_marker=False)
    fig = protocol_gap.draw_protocol_gap(pd.concat([own, without]), LOOKS, 2)
    titles = {ax.get_title() for ax in fig.axes if ax.get_visible()}
    both = {f"{cohort}\ntop 2 {kind}" for cohort in ("READ", "SKCM") for kind in ("HEG", "HVG")}
    assert titles == both | {"READ\nmarker genes"}
    fig = protocol_gap.draw_protocol_gap(without, LOOKS, 2)
    assert [ax.get_title() for ax in fig.axes if ax.get_visible()] == ["SKCM\ntop 2 HEG", "SKCM\ntop 2 HVG"]


# --- Noise ceiling ----------------------------------------------------------------------------------------------------


def test_the_share_of_the_ceiling_is_a_ratio_of_means_of_table_1():
    own = two_folds_two_seeds()  # means .51875 (HEG) and .4375 (HVG): slides .4, .7 and .65, .6 by fold and seed
    ceilings = own.assign(predictor="NoiseCeiling", kind="control", pcc=own["pcc"].where(own["pcc"].isna(), 0.8))
    shares = ceiling_scatter.ceiling_shares(pd.concat([own, ceilings]), 2)
    heg = np.mean([np.mean([np.mean([0.3, 0.5]), 0.8]), np.mean([np.mean([0.4, 0.8]), 0.4])])
    hvg = np.mean([np.mean([np.mean([0.5, 0.3]), 0.6]), np.mean([np.mean([0.4, 0.8]), 0.2])])
    assert shares.loc["CMRCNet-50"].to_dict() == pytest.approx({"HEG": heg / 0.8, "HVG": hvg / 0.8})
    none = pd.concat([own, ceilings.assign(pcc=0.0)])
    assert ceiling_scatter.ceiling_shares(none, 2).loc["CMRCNet-50"].isna().all()


def test_each_gene_is_drawn_over_its_own_ceiling():
    scores = scores_of()
    fig = ceiling_scatter.draw_ceiling(scores, style.predictor_looks(RUN, ["Mine", "BLEEP-50"]), 2)
    mean = scores.groupby(["predictor", "gene"])["pcc"].mean()
    for ax, name in zip(fig.axes, ("Mine", "BLEEP-50"), strict=True):
        heg, hvg = (line for line in ax.lines if line.get_marker() == "o")
        for line, listed in ((heg, ["A", "B"]), (hvg, ["B", "C"])):
            np.testing.assert_allclose(line.get_xdata(), mean["NoiseCeiling"][listed])
            np.testing.assert_allclose(line.get_ydata(), mean[name][listed])
        shares = ceiling_scatter.ceiling_shares(scores, 2).loc[name]
        percent = [
            f"{sign} {round(100 * shares[kind])} %".replace("-", "−") for kind, sign in ceiling_scatter.SIGNS.items()
        ]
        assert ax.get_title() == f"{name}\n{', '.join(percent)}"
        identity = next(line for line in ax.lines if line.get_color() == "black")
        np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())


def test_a_ceiling_figure_without_a_ceiling_is_refused():
    scores = scores_of()
    with pytest.raises(ValueError, match="no scores of NoiseCeiling"):
        ceiling_scatter.draw_ceiling(scores[scores["predictor"].ne("NoiseCeiling")], LOOKS, 2)


# --- All of them ------------------------------------------------------------------------------------------------------


def draw_all(sweeps):
    """Every figure that is made of scores, by name."""
    scores = scores_of()
    both = pd.concat([scores, scores_of(protocol="patient")])
    looks, methods = LOOKS, style.method_looks(["CMRCNet", "BLEEP", "Mine"])
    return {
        "boxplot": boxplot.draw_boxplot(scores, looks, 2),
        "overview": overview.draw_overview(scores, NONE, looks, "CMRCNet-50", 2),
        "profiles": profiles.draw_profiles(one_slide(scores), looks),
        "genes": gene_bars.draw_gene_bars(one_slide(scores), looks, 2),
        "neighbours": top_k_curve.draw_top_k_curves(sweeps, methods, [50], 2),
        "protocols": protocol_gap.draw_protocol_gap(both, looks, 2),
        "ceiling": ceiling_scatter.draw_ceiling(scores, looks, 2),
    }


def test_texts_are_legible_inside_the_page_and_apart(sweeps):
    for name, fig in draw_all(sweeps).items():
        assert fig.get_figwidth() <= style.PAGE_WIDTH + 1e-9, name
        assert min(text.get_fontsize() for text in fig.findobj(lambda one: hasattr(one, "get_fontsize"))) >= 6, name
        assert misplaced(fig) == [], name


def test_the_same_scores_give_the_same_bytes(sweeps, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "PNG_DPI", 60)
    for again in "12":
        names = draw_all(sweeps)
        for name, fig in names.items():
            style.save(fig, tmp_path / again / f"{name}.pdf", tmp_path / again / f"{name}.png")
    for name in names:
        for suffix in (".pdf", ".png"):
            one, two = ((tmp_path / again / name).with_suffix(suffix).read_bytes() for again in "12")
            assert one == two, name


def colours(fig):
    """All colours of lines, boxes, bars and points."""
    artists = fig.findobj(lambda one: hasattr(one, "get_facecolor") or hasattr(one, "get_color"))
    found = [
        get() for one in artists for get in (getattr(one, name, None) for name in ("get_facecolor", "get_color")) if get
    ]
    return {to_hex(colour) for colour in found if np.shape(colour) in ((), (3,), (4,))}


def test_a_method_has_one_colour_in_all_figures(sweeps, tmp_path):
    history = tmp_path / "history.tsv"
    pd.DataFrame({"epoch": [1, 2], "train_total": [2, 1], "val_total": [2, 1]}).to_csv(history, sep="\t", index=False)
    curves = learning_curves.draw_learning_curves({"CMRCNet/fold0": history}, style.method_looks(["Mine", "CMRCNet"]))
    for name, fig in (draw_all(sweeps) | {"curves": curves}).items():
        assert LOOKS["CMRCNet-50"].colour.lower() in colours(fig), name
        if name != "curves":
            assert LOOKS["BLEEP-50"].colour.lower() in colours(fig), name
