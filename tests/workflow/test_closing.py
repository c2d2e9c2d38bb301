"""Claims about what a run says at its end."""

import json

import pytest
from pipeline import example

from spotwise import config as configuration
from spotwise.workflow import Plan, PredictPlan, closing


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = example("demo", tmp_path)
    return Plan(config, configuration.prepare(config))


def write(plan, name, content=None):
    path = closing.Path(plan.results) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_only_what_exists_is_named(plan):
    assert closing.results_of(plan, []) == []


def test_tables_figures_report_and_warnings_are_where_the_run_says(plan):
    write(plan, "tables/table1.md")
    write(plan, "figures/costs.png")
    write(plan, "samples/DEMO1/qc.json", {"warnings": ["a", "b"]})
    write(plan, "samples/DEMO2/qc.json", {"warnings": []})
    assert closing.results_of(plan, ["my.yaml"]) == [
        "Tables:   results/demo/tables/ (table1.md first, then leaks.md)",
        "Figures:  results/demo/figures/",
        "Report:   results/demo/report.zip, from: snakemake --configfile my.yaml --report results/demo/report.zip",
        "Warnings: 2 about the data of 1 of 4 samples: results/demo/samples/*/qc.json",
    ]


def test_doubted_predictions_of_other_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = example("external", tmp_path)
    plan = Plan(config, configuration.prepare(config))
    path = closing.Path(plan.results) / "tables/external.csv"
    path.parent.mkdir(parents=True)
    path.write_text("predictor,sample,warning\nColours,A,\nColours,B,errors\nColours,C,errors\n")
    said = "Warnings: about 2 slides predicted by Colours: results/external/tables/external.md"
    assert closing.results_of(plan, []) == [said]
    path.write_text("predictor,sample,warning\nColours,A,\n")
    assert closing.results_of(plan, []) == []


def test_predicted_slides_are_named_and_those_that_differ_are_warned_about(plan):
    predict = PredictPlan(plan, "my.yaml")
    assert closing.slides_of(predict) == ([], [])
    write(plan, "predict/DEMO5/summary.html")
    write(plan, "predict/DEMO5/likeness/demo.json", {"alike": True, "words": ["as usual"]})
    assert closing.slides_of(predict) == (["Slide:    results/demo/predict/DEMO5/summary.html"], [])
    write(plan, "predict/DEMO5/likeness/demo.json", {"alike": False, "words": ["twice as large", "bluer"]})
    _, doubts = closing.slides_of(predict)
    assert doubts == ["DEMO5 IS UNLIKE the training slides of demo: twice as large; bluer"]


def test_random_weights_in_place_of_others_are_named_with_their_methods(plan):
    assert closing.random_weights(plan) == ""
    fell_back = {"BLEEP-ViT": None, "Ridge": "UNI", "KNNImage": "UNI"}
    for model, method in plan.models.items():
        write(
            plan,
            f"models/{model}/model.json",
            {"encoder": fell_back.get(method), "fell_back": method in ("Ridge", "KNNImage")},
        )
    said = closing.random_weights(plan)
    assert said.startswith("RANDOM WEIGHTS ")
    assert "UNI (Ridge, KNNImage);" in said
    assert "BLEEP" not in said
