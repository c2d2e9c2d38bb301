"""The claim that nothing leaks: without a link between image and expression every predictor scores zero."""

import pandas as pd
import pytest
from pipeline import Pipeline, example

pytestmark = [pytest.mark.workflow, pytest.mark.long]

SLIDES = {"NULL1": "Patient 1", "NULL3": "Patient 2", "NULL4": "Patient 3"}


def scored(folder, config):
    """Table 1 of a run on the null cohort: each slide's expression dealt out anew over its spots."""
    (folder / "samples.tsv").write_text(
        "sample\tcohort\tpatient\n" + "".join(f"{slide}\tnull\t{patient}\n" for slide, patient in SLIDES.items())
    )
    config["samples"] = str(folder / "samples.tsv")
    config["cohorts"] = {"null": {"markers": config["cohorts"]["demo"]["markers"]}}
    config["data"]["generated"]["unlinked"] = ["null"]
    config["training"]["epochs"] = 3
    del config["structure"]
    pipeline = Pipeline(folder, config)
    pipeline.run("results/" + config["run"] + "/tables/table1.csv")
    return pd.read_csv(pipeline.results / "tables/table1.csv").set_index(["protocol", "predictor"])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Methods of every kind and the controls, both protocols."""
    folder = tmp_path_factory.mktemp("null")
    config = example("demo", folder)
    for method in ("BLEEP-ViT", "MicNet"):  # the latter predicts nothing
        del config["methods"][method]
    config["methods"]["CMRCNet"]["neighbours"] = [50]
    config["controls"] = ["TrainMean", "RandomRetrieval", "LibrarySize", "Coordinates", "NeighbourSlide"]
    config["controls"] += ["ShuffledTraining", "ShuffledAcross"]  # of CMRCNet
    del config["evaluation"], config["predict"]
    return scored(folder, config)


@pytest.fixture(scope="module")
def with_context(tmp_path_factory):
    """Methods that are shown more than a spot's own image: neighbours, exemplars of other slides."""
    folder = tmp_path_factory.mktemp("null_context")
    config = example("arena", folder)
    config["methods"] = {name: config["methods"][name] for name in ("NH2ST", "EGN")}
    for settings in config["methods"].values():
        settings["training"].pop("epochs", None)
    config["protocols"], config["controls"] = ["patient"], ["TrainMean"]
    return scored(folder, config)


@pytest.mark.parametrize("protocol", ["paper", "patient"])
@pytest.mark.parametrize("genes", ["HEG_top50", "HVG_top50"])
def test_without_a_link_every_predictor_scores_zero(table, protocol, genes):
    scores = table.loc[protocol, genes]
    assert {"CMRCNet-50", "STNet", "Ridge", "KNNImage", "Coordinates", "ShuffledTraining"} < set(scores.index)
    assert scores.abs().max() < 0.1, scores.to_string()


@pytest.mark.parametrize("genes", ["HEG_top50", "HVG_top50"])
def test_without_a_link_neighbours_and_exemplars_give_nothing_away(with_context, genes):
    scores = with_context.loc["patient", genes]
    assert list(scores.index) == ["NH2ST", "EGN", "TrainMean"]
    assert scores.abs().max() < 0.1, scores.to_string()


def test_enough_genes_were_scored_for_the_claim_to_mean_something(table):
    assert table["n_genes"].min() > 100
    varying = table.drop(["TrainMean", "NeighbourSlide"], level="predictor")  # the latter has no other slide here
    assert varying["n_constant"].max() < 0.01 * table["n_genes"].min()
