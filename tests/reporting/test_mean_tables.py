"""Tables 2, 4 and 5."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import texreader
from handmade import arena, rows
from spotwise import config
from spotwise.evaluation import averages
from spotwise.reporting import tables
from spotwise.reporting.tables import layout
from spotwise.reporting.tables.mean_tables import ALL_COHORTS, page2, page4, page5, table2, table4, table5

REPOSITORY = Path(__file__).parents[2]


def method(model, **entry):
    """Return a method of the configuration with its defaults."""
    return {
        "model": model,
        "options": {},
        "training": {},
        "harmony": False,
        "targets": "log",
        "features": "raw",
    } | entry


def bullets(text):
    return [line[2:] for line in text.splitlines() if line.startswith("* ")]


# --- Table 2


@pytest.fixture
def longer():
    # the lists of 1 and 3 genes: HEG A, and A to C; HVG B, and B to D
    return pd.concat(
        [
            rows("CMRCNet-10", 0, 0, "S1", [0.9, 0.9, 0.9, 0.9], k=10),
            rows("CMRCNet-20", 0, 0, "S1", [0.2, 0.4, 0.6, 0.8], k=20, k_used=15),
            rows("CMRCNet-40", 0, 0, "S1", [0.4, 0.5, 0.6, 0.0], k=40),
            rows("BLEEP-10", 0, 0, "S1", [0.3, 0.1, 0.2, 0.0], k=10),
            rows("BLEEP-10-weighted", 0, 0, "S1", [0.8, 0.8, 0.8, 0.8], k=10),
            rows("BLEEP-50", 0, 0, "S1", [0.7, 0.7, 0.7, 0.7], k=50),
            rows("Late-200", 0, 0, "S1", [0.1, 0.1, 0.1, 0.1], k=200),
            rows("Late-100", 0, 0, "S1", [0.1, 0.1, 0.1, 0.1], k=100),
            rows("STNet", 0, 0, "S1", [0.6, 0.3, 0.0, 0.0], note="encoder without pretrained weights"),
            rows("Oracle", 0, 0, "S1", [1.0, 1.0, 1.0, 1.0]),
        ]
    )


def test_table2_takes_each_list_from_the_predictor_with_its_k(longer):
    table = table2(averages.mean_table(longer, (1, 3)), [(1, 20), (3, 40)]).set_index("method")
    assert list(table.index) == ["CMRCNet", "BLEEP", "Late", "STNet", "Oracle"]
    sets = ["HEG_top1_k20", "HVG_top1_k20", "HEG_top3_k40", "HVG_top3_k40"]
    taken = ["predictor_top1_k20", "predictor_top3_k40"]
    assert table.loc["CMRCNet", sets].tolist() == pytest.approx([0.2, 0.4, 0.5, 1.1 / 3])
    assert table.loc["CMRCNet", taken].tolist() == ["CMRCNet-20", "CMRCNet-40"]
    # K = 10 is the largest below 20 and below 40, though 50 is nearer to 40; the plain mean comes before the weighted
    assert table.loc["BLEEP", sets].tolist() == pytest.approx([0.3, 0.1, 0.2, 0.1])
    assert table.loc["BLEEP", taken].tolist() == ["BLEEP-10", "BLEEP-10"]
    assert table.loc["Late", taken].tolist() == ["Late-100", "Late-100"]
    assert table.loc["STNet", sets].tolist() == pytest.approx([0.6, 0.3, 0.3, 0.1])
    assert table["kind"].tolist() == ["method"] * 4 + ["control"]
    assert table["n_constant_top1_k20"].tolist() == [0, 1, 0, 2, 0]
    assert table["n_constant_top3_k40"].tolist() == [1, 1, 0, 2, 0]


def test_table2_says_which_predictors_have_another_k(longer):
    page = page2(table2(averages.mean_table(longer, (1, 3)), [(1, 20), (3, 40)]))
    text = layout.markdown(page)
    assert "| HEG top 1 (K 20) | HVG top 1 (K 20) | HEG top 3 (K 40) | HVG top 3 (K 40) |" in text
    assert bullets(text) == [
        "top 1: K 10, as there is none with K 20: BLEEP-10",
        "top 1: K 100, as there is none with K 20: Late-100",
        "CMRCNet-20: bank smaller than K: whole bank used (k_used=15)",
        "top 3: K 10, as there is none with K 40: BLEEP-10",
        "top 3: K 100, as there is none with K 40: Late-100",
        "STNet: encoder without pretrained weights",
        "1 fold, 1 seed",
    ]
    assert "| STNet | **0.600** | <u>0.300</u> | <u>0.300</u> | <u>0.100</u> | 2 of 4 |" in text
    assert "| CMRCNet | 0.200 | **0.400** | **0.500** | **0.367** | 0 / 1 of 4 |" in text
    assert "| *Oracle* | 1.000 |" in text


def test_table2_of_methods_named_by_numbers_is_written(tmp_path):
    scores = pd.concat([arena({name: 0.1}, k=10) for name in ("1", "2")])
    tables.write_table(table2(averages.mean_table(scores, (1,)), [(1, 20)]), tmp_path / "table2.csv")
    assert "* top 1: K 10, as there is none with K 20: 1, 2\n" in (tmp_path / "table2.md").read_text()


def test_table2_carries_the_spread_of_the_predictor_it_took():
    scores = pd.concat(
        [
            rows(name, fold, seed, f"S{fold}", [pcc + 0.2 * fold + 0.4 * seed] * 4, k=k)
            for name, k, pcc in (("CMRCNet-10", 10, 0.5), ("CMRCNet-20", 20, 0.1))
            for fold in (0, 1)
            for seed in (0, 1)
        ]
    )
    row = table2(averages.mean_table(scores, (1,)), [(1, 20)]).iloc[0]
    # 0.1, 0.3 | 0.5, 0.7 for folds | seeds: fold means 0.3, 0.5, seed means 0.2, 0.6
    assert row["HEG_top1_k20"] == pytest.approx(0.4)
    assert row["HEG_top1_k20_sd_folds"] == pytest.approx(0.2 / np.sqrt(2))
    assert row["HEG_top1_k20_sd_seeds"] == pytest.approx(0.4 / np.sqrt(2))


def test_table2_of_a_small_panel_takes_all_of_it_and_says_so(longer):
    page = page2(table2(averages.mean_table(longer, (4, 150)), [(4, 20), (150, 20)]))
    lines = bullets(layout.markdown(page))
    assert "HEG top 150 (K 20): 4 measured HVG, all of them taken" in lines
    assert not any(line.startswith("HEG top 4 ") for line in lines)
    assert lines.count("CMRCNet-20: bank smaller than K: whole bank used (k_used=15)") == 1


def test_without_longer_lists_table2_is_empty_and_says_why(longer, tmp_path):
    tables.write_table(table2(averages.mean_table(longer, (1,)), []), tmp_path / "table2.csv")
    assert tables.read_table(tmp_path / "table2.csv").empty
    assert (tmp_path / "table2.md").read_text().endswith("No longer gene lists are configured (evaluation.extended).\n")
    assert "No longer gene lists" in (tmp_path / "table2.tex").read_text()


# --- Table 4

ENCODERS = {
    "resnet": {"timm": "resnet50.tv_in1k", "pretrained": "required"},
    "swin": {"timm": "ctranspath", "pretrained": "required"},
    "mine": {"timm": "hf-hub:MahmoodLab/UNI", "pretrained": "no"},
}
METHODS = {
    "STNet": method("STNet"),
    "CMRCNet": method("CMRCNet"),
    "Again": method("CMRCNet"),
    "Tuned": method("CTransPath", options={"pretrained": "required"}),
    "Untrained": method("CTransPath", options={"pretrained": "no"}),
    "Small": method("CTransPath", options={"embed_dim": 24}),
    "Own": method("CTransPath", options={"embed_dim": 24, "checkpoint": "weights.pth"}),
    "Plain": method("Ridge", encoder="resnet"),
    "Frozen": method("Ridge", encoder="swin"),
    "Nearest": method("KNNImage", encoder="mine"),
}
SCORES4 = {"STNet": 0.9, "Tuned": 0.4, "Untrained": 0.1, "Small": 0.1, "Own": 0.1, "Plain": 0.8, "Frozen": 0.3}


@pytest.fixture
def foundation():
    retrieved = [arena({f"CMRCNet-{k}": pcc}, k=k) for k, pcc in ((50, 0.6), (500, 0.2), (250, 0.7))]
    weighted = arena({"CMRCNet-500-weighted": 0.99}, k=500)
    again = arena({"Again-1000": 0.95}, k=1000)
    return pd.concat([*retrieved, weighted, again, arena(SCORES4 | {"Nearest": 0.25, "Oracle": 1.0})])


def test_table4_compares_foundation_models_with_cmrcnet_at_its_largest_k(foundation):
    table = table4(averages.mean_table(foundation, (2,)), 2, METHODS, ENCODERS)
    assert dict(zip(table["predictor"], table["encoder"], strict=True)) == {
        "CMRCNet-500": "own, from scratch",
        "Tuned": "CTransPath, fine-tuned",
        "Untrained": "CTransPath, from scratch",
        "Small": "CTransPath, from scratch",
        "Own": "CTransPath, fine-tuned",
        "Frozen": "ctranspath, frozen",
        "Nearest": "hf-hub:MahmoodLab/UNI, frozen, random weights",
        "Oracle": "",
    }
    assert table.set_index("predictor")["HEG_top2"].to_dict() == pytest.approx(
        {name: SCORES4.get(name) for name in ("Tuned", "Untrained", "Small", "Own", "Frozen")}
        | {"CMRCNet-500": 0.2, "Nearest": 0.25, "Oracle": 1.0}
    )
    text = layout.markdown(page4(table))
    assert "| Tuned | CTransPath, fine-tuned | **0.400** | **0.400** | 0 of 4 |" in text
    assert "| Frozen | ctranspath, frozen | <u>0.300</u> | <u>0.300</u> | 0 of 4 |" in text
    assert bullets(text) == ["1 fold, 1 seed"]  # nothing on markers, which are not shown


def test_a_run_without_foundation_models_has_an_empty_table4_that_says_so(foundation, tmp_path):
    some = {name: METHODS[name] for name in ("STNet", "CMRCNet", "Plain")}
    tables.write_table(table4(averages.mean_table(foundation, (2,)), 2, some, ENCODERS), tmp_path / "table4.csv")
    assert tables.read_table(tmp_path / "table4.csv").empty
    for suffix in ("md", "tex"):
        assert "This run has no pathology foundation model" in (tmp_path / f"table4.{suffix}").read_text()


def test_a_run_without_cmrcnet_shows_its_foundation_models(foundation):
    table = table4(averages.mean_table(foundation, (2,)), 2, {"Tuned": METHODS["Tuned"]}, ENCODERS)
    assert table["predictor"].tolist() == ["Tuned", "Oracle"]


# --- Table 5

TRAINING = {"epochs": 60, "batch_size": 64}
VARIANTS = {
    "STNet": method("STNet"),
    "CMRCNet": method("CMRCNet", options={"encoder_dim": 96}),
    "Cosine": method("CMRCNet", options={"encoder_dim": 96, "reconstruction_loss": "cosine", "masked_fraction": 0.3}),
    "Paper": method("CMRCNet", options={"encoder_dim": 48, "reading": "paper"}, training={"epochs": 9}, harmony=True),
    "Alone": method("CMRCNet", options={"encoder_dim": 96, "reconstruction": "none", "masked_fraction": 0.7}),
    "BLEEP": method("BLEEP"),
    "ViT": method("BLEEP", options={"encoder": "vit"}),
}


@pytest.fixture
def ablation():
    def cohort(name, folds, **pcc):
        return [
            rows(f"{run}-{k}" if k else run, fold, 0, f"S{fold}", [value + 0.1 * fold] * 4, cohort=name, k=k)
            for run, (k, value) in pcc.items()
            for fold in range(folds)
        ]

    of = {"CMRCNet": (50, 0.2), "Cosine": (250, 0.3), "Paper": (50, 0.1), "Alone": (50, 0.1), "ViT": (50, 0.4)}
    others = {"BLEEP": (50, 0.9), "STNet": (0, 0.9), "Oracle": (0, 0.8)}
    return pd.concat(
        [
            *cohort("READ", 1, **of, **others),
            *cohort("SKCM", 3, **{name: (k, pcc + 0.3) for name, (k, pcc) in of.items()}, **others),
            *cohort("READ", 1, CMRCNet=(250, 0.9)),
            *cohort("SKCM", 3, CMRCNet=(250, 0.9)),
        ]
    )


def test_table5_averages_over_cohorts_and_keeps_each_cohort(ablation):
    means = averages.mean_table(ablation, (2,), ["READ", "SKCM"], ["CMRCNet-250", "CMRCNet-50"])
    table = table5(means, 2, VARIANTS, TRAINING)
    assert table["cohort"].drop_duplicates().tolist() == [ALL_COHORTS, "READ", "SKCM"]
    predictors = ["CMRCNet-50", "Cosine-250", "Paper-50", "Alone-50", "ViT-50", "Oracle"]
    assert table["predictor"].tolist() == predictors * 3
    by_cohort = table.set_index(["predictor", "cohort"])["HEG_top2"]
    # READ: one fold, 0.2; SKCM: folds 0.5, 0.6, 0.7 have the mean 0.6. A cohort counts once, whatever its folds
    assert by_cohort["CMRCNet-50"].to_dict() == pytest.approx({ALL_COHORTS: 0.4, "READ": 0.2, "SKCM": 0.6})
    assert by_cohort["ViT-50"].to_dict() == pytest.approx({ALL_COHORTS: 0.6, "READ": 0.4, "SKCM": 0.8})
    overall = table.iloc[0]
    assert overall["HEG_top2_sd_folds"] == pytest.approx(0.1)  # SKCM's, as READ has none
    assert np.isnan(overall["HEG_top2_sd_seeds"])
    assert overall[["n_cohorts", "n_folds", "n_seeds", "k"]].tolist() == [2, 4, 1, 50]
    assert table["n_cohorts"].tolist() == [2] * 6 + [1] * 12


def test_spread_of_a_mean_over_cohorts_is_the_root_mean_square():
    scores = pd.concat(
        [
            rows("CMRCNet-50", fold, seed, f"S{fold}", [step * fold + 0.01 * seed] * 4, cohort=cohort, k=50)
            for cohort, step in (("READ", 0.3), ("SKCM", 0.4))
            for fold in (0, 1)
            for seed in (0, 1)
        ]
    )
    overall = table5(averages.mean_table(scores, (2,)), 2, VARIANTS, TRAINING).iloc[0]
    # spreads over folds 0.3 / sqrt 2 and 0.4 / sqrt 2: root mean square 0.5 / 2; over seeds both 0.01 / sqrt 2
    assert overall["marker_sd_folds"] == pytest.approx(0.25)
    assert overall["marker_sd_seeds"] == pytest.approx(0.01 / np.sqrt(2))


def test_without_markers_in_every_cohort_there_is_no_mean_over_cohorts():
    scores = pd.concat(
        [
            rows("CMRCNet-50", 0, 0, "S0", [0.2] * 4, cohort="READ", k=50),
            rows("CMRCNet-50", 0, 0, "S0", [0.4] * 4, cohort="SKCM", k=50).assign(is_marker=False),
        ]
    )
    overall = table5(averages.mean_table(scores, (2,)), 2, VARIANTS, TRAINING).iloc[0]
    assert overall["HEG_top2"] == pytest.approx(0.3)
    assert np.isnan(overall["marker"])


def test_table5_describes_the_differences_of_each_variant(ablation):
    table = table5(averages.mean_table(ablation, (2,)), 2, VARIANTS, TRAINING).iloc[:6].set_index("predictor")
    described = table[["reading", "reconstruction_loss", "masked_fraction", "reconstruction", "other"]]
    assert described.agg(list, axis=1).to_dict() == {
        "CMRCNet-50": ["released", "mse", "0.5", "image", ""],
        "Cosine-250": ["released", "cosine", "0.3", "image", ""],
        "Paper-50": ["paper", "mse", "0.5", "image", "encoder_dim 48, training.epochs 9, harmony True"],
        "Alone-50": ["released", "", "", "none", ""],
        "ViT-50": ["", "", "", "none", "BLEEP's loss"],
        "Oracle": ["", "", "", "", ""],
    }


def test_table5_is_laid_out_by_protocol_with_the_cohorts_remarks(ablation):
    means = averages.mean_table(ablation, (2,), ["READ", "SKCM"], markers={"SKCM": ["D", "RND"]})
    text = layout.markdown(page5(table5(means, 2, VARIANTS, TRAINING)))
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## all cohorts"]
    assert "| ViT-50 |  |  |  | none | BLEEP's loss | **0.600** ± 0.100 |" in text
    assert bullets(text) == [
        "2 cohorts: READ, SKCM",
        "READ: Markers: 1 of 2 measured; missing: E",
        "SKCM: Markers: 1 of 3 measured; missing: E, RND",
        "4 folds, 1 seed",
    ]


def test_a_run_without_cmrcnet_has_an_empty_table5_that_says_so(ablation, tmp_path):
    table = table5(averages.mean_table(ablation, (2,)), 2, {"STNet": method("STNet")}, TRAINING)
    tables.write_table(table, tmp_path / "table5.csv")
    assert tables.read_table(tmp_path / "table5.csv").empty
    assert "This run has no method of class CMRCNet to vary." in (tmp_path / "table5.md").read_text()


def test_the_papers_configuration_has_every_row_of_its_table5():
    settings = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config.prepare(settings)
    scores = arena(dict.fromkeys(settings["methods"], 0.1), k=50)
    scores["method"] = scores["predictor"]
    table = table5(averages.mean_table(scores, (2,)), 2, settings["methods"], settings["training"])
    released = table[table["reading"].ne("paper") & table["other"].isin(["", "BLEEP's loss"])]
    found = released[["reconstruction_loss", "masked_fraction", "reconstruction"]].agg(tuple, axis=1)
    published = {(loss, rate, "image") for loss in ("cosine", "mse") for rate in ("0.3", "0.5", "0.7")}
    published |= {("cosine", "0.5", "expression"), ("mse", "0.5", "expression"), ("", "", "none")}
    assert set(found) == published


def test_latex_of_tables_2_4_and_5_says_what_their_csv_says(longer, foundation, ablation, tmp_path):
    names = {"HEG top 2": "HEG_top2", "HVG top 2": "HVG_top2", "marker": "marker"}
    lists = {f"{kind} top {n} (K {k})": f"{kind}_top{n}_k{k}" for kind in ("HEG", "HVG") for n, k in ((1, 20), (3, 40))}
    written = {
        "table2": (table2(averages.mean_table(longer, (1, 3)), [(1, 20), (3, 40)]), "method", lists),
        "table4": (table4(averages.mean_table(foundation, (2,)), 2, METHODS, ENCODERS), "predictor", names),
        "table5": (table5(averages.mean_table(ablation, (2,)), 2, VARIANTS, TRAINING), "predictor", names),
    }
    for name, (table, row_name, headings) in written.items():
        both = pd.concat(
            [table, table.assign(protocol="patient", **{c: -table[c] for c in headings.values() if c in table})]
        )
        tables.write_table(both, tmp_path / f"{name}.csv")
        found = texreader.read((tmp_path / f"{name}.tex").read_text())
        assert {read.label for read in found.values()} == {f"tab:{name}-paper", f"tab:{name}-patient"}
        csv = pd.read_csv(tmp_path / f"{name}.csv")
        shown = csv[csv["cohort"].eq(ALL_COHORTS)] if name == "table5" else csv
        assert len(shown) > 9
        for _, row in shown.iterrows():
            cells = found[row["protocol"]].cells(row["cohort"])[row[row_name]]
            for heading, column in headings.items():
                if column in csv:
                    sd = row[f"{column}_sd_folds"]
                    assert cells[heading] == f"{row[column]:.3f}" + ("" if np.isnan(sd) else f" ± {sd:.3f}")
            if name == "table4":
                assert cells["Encoder"] == ("" if pd.isna(row["encoder"]) else row["encoder"])
