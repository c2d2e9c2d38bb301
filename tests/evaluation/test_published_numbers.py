"""Claims about the published numbers: they say what the paper's text says of them."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from spotwise import config as configuration
from spotwise.constants import ALL_COHORTS
from spotwise.evaluation.gene_sets import gene_set_columns
from spotwise.evaluation.published_numbers import COHORTS, COLUMNS, TOP, read_published_numbers

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "resources" / "paper"
NUMBERS = read_published_numbers(FOLDER)


def number(table, dataset, model, genes):
    """One printed number; it is there once."""
    rows = NUMBERS[NUMBERS["table"].eq(table) & NUMBERS["dataset"].eq(dataset) & NUMBERS["model"].eq(model)]
    return rows.loc[(rows["gene_set"] + rows["gene"]).eq(genes), "pcc"].item()


def mean(model, gene_set, table=1):
    """Mean over the six datasets."""
    return np.mean([number(table, dataset, model, gene_set) for dataset in COHORTS])


def gain(new, old):
    """By how many percent one number exceeds another, as the paper rounds."""
    return round(100 * (new / old - 1), 2)


SETS = ("HEG_top50", "HVG_top50", "marker")


# --- What the text says


@pytest.mark.parametrize(("gene_set", "printed"), [("HEG_top50", 6.27), ("HVG_top50", 6.11), ("marker", 11.26)])
def test_gains_of_the_abstract(gene_set, printed):
    """CMRCNet-50 over BLEEP, mean over six datasets; the paper takes both from Table 5, as rounded there."""
    of_table_5 = [number(5, ALL_COHORTS, model, gene_set) for model in ("MSE, 0.5, Image", "contrastive only")]
    assert gain(*of_table_5) == printed
    assert gain(mean("CMRCNet-50", gene_set), mean("BLEEP", gene_set)) == pytest.approx(printed, abs=0.06)


@pytest.mark.parametrize(
    ("dataset", "model", "other", "gene_set", "values", "printed"),
    [
        ("COAD", "CMRCNet-50", "STNet", "HEG_top50", (0.3872, 0.3080), 25.71),
        ("COAD", "CMRCNet-50", "STNet", "HVG_top50", (0.4611, 0.3715), 24.12),
        ("COAD", "CMRCNet-50", "BLEEP", "HEG_top50", (0.3872, 0.3509), 10.34),
        ("COAD", "CMRCNet-50", "BLEEP", "HVG_top50", (0.4611, 0.4185), 10.18),
        ("SKCM", "CMRCNet-50", "BLEEP", "marker", (0.2704, 0.1921), 40.76),
        ("SKCM", "CMRCNet-50", "STNet", "marker", (0.2704, 0.0628), 330.57),
    ],
)
def test_percentages_of_the_results(dataset, model, other, gene_set, values, printed):
    found = number(1, dataset, model, gene_set), number(1, dataset, other, gene_set)
    assert found == values
    assert gain(*found) == printed


def test_skcm_has_the_values_that_the_text_calls_the_best():
    assert number(1, "SKCM", "CMRCNet-50", "HEG_top50") == 0.3420
    assert number(1, "SKCM", "CMRCNet-50", "HVG_top50") == 0.1966
    for dataset, gene_set in itertools.product(COHORTS, SETS[:2]):
        best = [number(1, dataset, model, gene_set) for model in ("CMRCNet-50", "CMRCNet-500")]
        others = [number(1, dataset, model, gene_set) for model in ("STNet", "HisToGene", "BLEEP")]
        assert max(best) > max(others)  # "optimal or second-best results"


@pytest.mark.parametrize(
    ("model", "heg", "hvg"),
    [
        ("contrastive only", 0.2933, 0.2846),
        ("cosine, 0.3, Image", 0.3090, 0.3001),
        ("cosine, 0.5, Image", 0.3077, 0.2968),
        ("cosine, 0.7, Image", 0.3063, 0.2941),
        ("cosine, 0.5, Spatial Transcription", 0.3069, 0.2946),
        ("MSE, 0.3, Image", 0.3020, 0.2921),
        ("MSE, 0.5, Image", 0.3117, 0.3020),
        ("MSE, 0.7, Image", 0.3006, 0.2924),
        ("MSE, 0.5, Spatial Transcription", 0.2996, 0.2937),
    ],
)
def test_ablations_that_the_text_repeats(model, heg, hvg):
    assert number(5, ALL_COHORTS, model, "HEG_top50") == heg
    assert number(5, ALL_COHORTS, model, "HVG_top50") == hvg


def test_table_4_is_read_as_the_text_reads_it():
    for dataset, gene_set in itertools.product(COHORTS, SETS[:2]):
        foundation_model_wins = number(4, dataset, "cTransPath", gene_set) > number(4, dataset, "CMRCNet-500", gene_set)
        assert foundation_model_wins == (dataset in ("IDC-LymphNode", "COAD", "IDC"))


# --- Tables against each other


@pytest.mark.parametrize(("row", "model"), [("contrastive only", "BLEEP"), ("MSE, 0.5, Image", "CMRCNet-50")])
@pytest.mark.parametrize("gene_set", SETS)
def test_two_rows_of_table_5_are_means_of_table_1(row, model, gene_set):
    assert number(5, ALL_COHORTS, row, gene_set) == pytest.approx(mean(model, gene_set), abs=1.01e-4)


@pytest.mark.parametrize(
    ("model", "means"),
    [
        ("STNet", (0.2207, 0.2192, 0.1641)),
        ("HisToGene", (0.2308, 0.2165, 0.1367)),
        ("BLEEP", (0.2933, 0.2847, 0.2133)),
        ("CMRCNet-50", (0.3118, 0.3020, 0.2372)),
        ("CMRCNet-500", (0.3340, 0.3275, 0.2387)),
    ],
)
def test_means_over_the_datasets(model, means):
    assert [mean(model, gene_set) for gene_set in SETS] == pytest.approx(means, abs=6e-5)


@pytest.mark.parametrize("dataset", COHORTS)
def test_table_4_repeats_cmrcnet_500_of_table_1(dataset):
    for gene_set in SETS[:2]:
        assert number(4, dataset, "CMRCNet-500", gene_set) == number(1, dataset, "CMRCNet-500", gene_set)


def test_the_best_genes_fall_from_rank_to_rank():
    best = NUMBERS[NUMBERS["table"].eq(3)]
    for _, genes in best.groupby(["dataset", "model"]):
        assert genes["rank"].tolist() == [1, 2, 3, 4, 5]
        assert genes["pcc"].is_monotonic_decreasing
        assert genes["gene"].is_unique
    assert number(3, "COAD", "CMRCNet-50", "CD24") == 0.6945
    assert number(3, "READ", "CMRCNet-50", "ITLN1") > number(
        3, "READ", "BLEEP", "ITLN1"
    )  # as the text on Fig. 5 has it


# --- Their form


def test_every_number_is_there_once():
    assert list(NUMBERS) == COLUMNS
    assert NUMBERS.groupby("table").size().tolist() == [6 * 5 * 3, 6 * 4 * 4, 6 * 4 * 5, 6 * 2 * 2, 9 * 3]
    assert not NUMBERS.duplicated(["table", "dataset", "model", "gene_set", "gene"]).any()
    assert NUMBERS["pcc"].between(0, 1).all()
    assert NUMBERS["pcc"].round(4).eq(NUMBERS["pcc"]).all()
    for _, rows in NUMBERS[NUMBERS["table"].lt(5)].groupby("table"):
        assert tuple(rows["dataset"].unique()) == COHORTS
    assert set(NUMBERS["gene_set"]) <= {*gene_set_columns(TOP), ""}
    assert (NUMBERS["gene_set"].eq("") == NUMBERS["table"].eq(3)).all()


def test_as_many_spots_are_retrieved_as_the_captions_say():
    retrieved = NUMBERS[NUMBERS["model"].str.contains("BLEEP|CMRCNet|,|contrastive")]
    assert (NUMBERS["k"].gt(0) == NUMBERS.index.isin(retrieved.index)).all()
    of_sets = retrieved.groupby(["table", "gene_set"])["k"].unique().map(set)
    assert of_sets[2, "HEG_top150"] == of_sets[2, "HVG_top150"] == {250}
    assert of_sets[2, "HEG_top250"] == of_sets[2, "HVG_top250"] == {500}
    assert of_sets[1, "marker"] == {50, 500}
    assert of_sets[3, ""] == of_sets[5, "marker"] == {50}
    assert of_sets[4, "HEG_top50"] == {500}


# --- What is ours


@pytest.mark.parametrize(
    ("table", "model", "gene_set", "predictor", "other"),
    [
        (1, "STNet", "marker", "STNet", "STNet-original"),
        (1, "HisToGene", "marker", "HisToGene", ""),
        (1, "BLEEP", "marker", "BLEEP-ViT-50", "BLEEP-50"),
        (1, "CMRCNet-500", "marker", "CMRCNet-500", "CMRCNet-paper-500"),
        (2, "CMRCNet", "HEG_top150", "CMRCNet-250", "CMRCNet-paper-250"),
        (2, "BLEEP", "HVG_top250", "BLEEP-ViT-500", "BLEEP-500"),
        (3, "CMRCNet-50", "", "CMRCNet-50", "CMRCNet-paper-50"),
        (4, "cTransPath", "HEG_top50", "CTransPath", "CTransPath-Ridge"),
        (5, "contrastive only", "marker", "CMRCNet-contrastive-50", "BLEEP-ViT-50"),
        (5, "cosine, 0.3, Image", "marker", "CMRCNet-cosine-mask30-50", "CMRCNet-cosine-mask70-50"),
        (5, "MSE, 0.7, Image", "marker", "CMRCNet-mask70-50", "CMRCNet-mask30-50"),
        (5, "MSE, 0.5, Image", "marker", "CMRCNet-50", "CMRCNet-paper-50"),
        (5, "MSE, 0.5, Spatial Transcription", "marker", "CMRCNet-expression-50", ""),
    ],
)
def test_a_printed_row_is_our_predictor(table, model, gene_set, predictor, other):
    rows = NUMBERS[NUMBERS["table"].eq(table) & NUMBERS["model"].eq(model) & NUMBERS["gene_set"].eq(gene_set)]
    assert set(rows["predictor"]) == {predictor}
    assert set(rows["other_predictor"]) == {other}


def test_rows_of_table_5_train_with_the_settings_they_are_printed_with():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    for row in NUMBERS.loc[NUMBERS["table"].eq(5) & NUMBERS["model"].ne("contrastive only")].itertuples():
        loss, rate, modality = row.model.split(", ")
        options = config["methods"][row.predictor.removesuffix("-50")]["options"]
        assert options.get("reconstruction_loss", "mse") == loss.lower()
        assert options.get("masked_fraction", 0.5) == float(rate)
        assert options.get("reconstruction", "image") == {"Image": "image"}.get(modality, "expression")


def test_the_paper_configuration_runs_everything_that_was_published(monkeypatch):
    monkeypatch.chdir(ROOT)  # where its sample sheet is looked for
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    configuration.prepare(config)
    run = {predictor.name for predictor in configuration.predictors(config)}
    assert set(NUMBERS["predictor"]) <= run
    assert set(NUMBERS["other_predictor"]) - run == {"", "BLEEP-250", "BLEEP-500"}
    assert list(config["cohorts"]) == list(COHORTS)
    assert set(NUMBERS["cohort"]) == {*COHORTS, ALL_COHORTS}


def test_ambiguous_rows_have_a_remark():
    assert NUMBERS.loc[NUMBERS["other_predictor"].ne(""), "remark"].str.contains("other reading").all()
    said = NUMBERS.drop_duplicates(["table", "model"]).set_index(["table", "model"])["remark"]
    assert "contrastive" in said[1, "BLEEP"]
    assert "exchanged" in said[5, "MSE, 0.3, Image"]
    assert "exchanged" not in said[5, "MSE, 0.5, Image"]
    assert "frozen" in said[4, "cTransPath"]
    assert "PSC" in said[5, "contrastive only"]
    assert said.loc[3].str.contains("five best").all()


def test_another_folder_is_read(tmp_path):
    for path in FOLDER.glob("*.csv"):
        (tmp_path / path.name).write_text(
            path.read_text(encoding="utf-8").replace("0.2067", "0.9999"), encoding="utf-8"
        )
    changed = read_published_numbers(tmp_path)
    assert changed["pcc"][0] == 0.9999
    pd.testing.assert_frame_equal(changed.drop(index=0), NUMBERS.drop(index=0))
