"""The claim that nothing leaks: without a link between image and expression every predictor scores zero."""

import pandas as pd
import pytest
from pipeline import Pipeline, example

pytestmark = pytest.mark.workflow

SLIDES = {"NULL1": "Patient 1", "NULL3": "Patient 2", "NULL4": "Patient 3"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Scores on the null cohort: each slide's expression dealt out anew over its spots."""
    folder = tmp_path_factory.mktemp("null")
    config = example("demo", folder)
    (folder / "samples.tsv").write_text(
        "sample\tcohort\tpatient\n" + "".join(f"{slide}\tnull\t{patient}\n" for slide, patient in SLIDES.items())
    )
    config["samples"] = str(folder / "samples.tsv")
    config["cohorts"] = {"null": {"markers": config["cohorts"]["demo"]["markers"]}}
    config["training"]["epochs"] = 3
    pipeline = Pipeline(folder, config)
    pipeline.run("results/demo/tables/table1.csv")
    return pd.read_csv(pipeline.results / "tables/table1.csv").set_index(["protocol", "predictor"])


@pytest.mark.parametrize("protocol", ["paper", "patient"])
@pytest.mark.parametrize("genes", ["HEG_top50", "HVG_top50"])
def test_without_a_link_every_predictor_scores_zero(table, protocol, genes):
    scores = table.loc[protocol, genes]
    assert len(scores) == 7
    assert scores.abs().max() < 0.1, scores.to_string()


def test_enough_genes_were_scored_for_the_claim_to_mean_something(table):
    assert table["n_genes"].min() > 100
    varying = table[table.index.get_level_values("predictor") != "TrainMean"]
    assert varying["n_constant"].max() < 0.01 * table["n_genes"].min()
