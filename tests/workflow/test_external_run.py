"""The claims of docs/external-predictions.md: its code and configuration work, and rivals are scored alike."""

import re
import shutil
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from pipeline import REPOSITORY, Pipeline, example

from spotwise.constants import TEST
from spotwise.data.folds import read_fold
from spotwise.inference.prediction_files import read_prediction

pytestmark = pytest.mark.workflow

PATIENT = {"DEMO1": "Patient 1", "DEMO2": "Patient 1", "DEMO3": "Patient 2"}
PATH = "predictions/{tool}/{{protocol}}/{{sample}}.h5ad"
OBSERVED = "observed/demo/patient"
TABLES = ["table1", "table3", "markers", "measures", "intervals", "comparisons", "leaks", "external"]
FIGURES = ["demo/patient/boxplot", "demo/patient/maps_DEMO1", "overview_patient"]


def blocks(language):
    """Return the page's code blocks in one language."""
    page = (REPOSITORY / "docs/external-predictions.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a tiny cohort twice: for the tasks, then with the page's predictions, a control's, and the truth."""
    folder = tmp_path_factory.mktemp("external")
    config = example("external", folder)
    rows = [f"{sample}\tdemo\t{patient}\n" for sample, patient in PATIENT.items()]
    (folder / "samples.tsv").write_text("sample\tcohort\tpatient\n" + "".join(rows))
    config["samples"] = str(folder / "samples.tsv")
    config["data"]["generated"] |= {"spots_across": 8, "unlinked": []}
    config["expression"]["hvg_per_slide"] = 60
    config |= {"protocols": ["patient"], "controls": ["TrainMean", "LibrarySize"]}
    copies = {name: {"predictions": PATH.format(tool=name), "units": "log_normalised"} for name in ("Twin", "Truth")}
    config["external"] |= copies
    pipeline = Pipeline(folder, config)
    before = pipeline.snakemake("--cores", "1", "paper")
    pipeline.run("tasks", *(f"results/external/{name}" for name in ("predictions/demo/patient/controls", OBSERVED)))
    (code,) = blocks("python")
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    copy_predictions(pipeline)
    tables = [f"results/external/tables/{name}.csv" for name in TABLES]
    after = pipeline.run(*tables, *(f"results/external/figures/{name}.png" for name in FIGURES))
    return pipeline, before, after


def copy_predictions(pipeline):
    """Write the truth, and the predictions of a control in another order, as files of two tools."""
    for name in ("Twin", "Truth"):
        (pipeline.folder / f"predictions/{name}/patient").mkdir(parents=True)
    for path in pipeline.results.glob("predictions/demo/patient/controls/*/*/LibrarySize/*.h5ad"):
        twin = read_prediction(path)
        target = pipeline.folder / "predictions/{}/patient" / path.name
        twin[::-1, ::-1].copy().write_h5ad(str(target).format("Twin"))
        twin.X = np.nan_to_num(twin.layers["observed"])  # a gene is not measured on the last slide
        twin.write_h5ad(str(target).format("Truth"))


@pytest.fixture(scope="module")
def table1(run):
    return pd.read_csv(run[0].results / "tables/table1.csv").set_index("predictor")


def test_the_page_shows_the_section_of_the_example():
    shown = yaml.safe_load(blocks("yaml")[0])
    assert shown["external"] == example("external", REPOSITORY)["external"]


def test_missing_predictions_stop_the_run_in_one_line_before_any_job(run):
    _, before, _ = run
    assert before.returncode != 0
    (line,) = [line for line in before.stdout.splitlines() if line.startswith("Error: ")]
    assert "external.Colours: predictions: found no file predictions/colours/patient/DEMO1.h5ad (3 of 3 missing" in line
    assert "Traceback" not in before.stdout
    assert " 1/" not in before.stdout


def test_the_pages_predictions_stand_in_every_table_and_figure(run, table1):
    pipeline = run[0]
    assert table1.index.tolist() == ["Colours", "Twin", "Truth", "TrainMean", "LibrarySize"]
    assert table1["kind"].tolist() == ["external"] * 3 + ["control"] * 2
    assert table1.loc["Colours", "HVG_top50"] > table1.loc["TrainMean", "HVG_top50"] + 0.1
    for name in ("table3", "markers", "measures", "intervals", "external"):
        assert "Colours" in (pipeline.results / f"tables/{name}.csv").read_text(), name
    pairs = pd.read_csv(pipeline.results / "tables/comparisons.csv")
    assert {("Colours", "Twin"), ("Colours", "LibrarySize")} <= set(zip(pairs["first"], pairs["second"], strict=True))
    assert all((pipeline.results / f"figures/{name}.png").exists() for name in FIGURES)
    assert "Colours: predicted by another tool, trained on: the training slides of each fold" in (
        pipeline.results / "tables/table1.md"
    ).read_text(encoding="utf-8")


def test_nothing_is_trained(run):
    pipeline = run[0]
    assert not (pipeline.results / "models").exists()
    assert pipeline.planned().keys().isdisjoint({"train", "fit_frozen", "embed_patches", "costs"})


def test_a_copy_of_a_predictor_scores_exactly_like_it(run, table1):
    columns = [name for name in table1 if name.startswith(("HEG", "HVG", "marker_", "n_constant"))]
    assert table1.loc["Twin", columns].equals(table1.loc["LibrarySize", columns])
    intervals = pd.read_csv(run[0].results / "tables/intervals.csv").set_index(["gene_set", "predictor"])
    numbers = ["mean", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(intervals.xs("Twin", level=1)[numbers], intervals.xs("LibrarySize", level=1)[numbers])


def test_the_truth_scores_one_and_is_a_leak(run, table1):
    assert table1.loc["Truth", ["HEG_top50", "HVG_top50"]].to_list() == pytest.approx([1, 1], abs=1e-6)
    leaks = pd.read_csv(run[0].results / "tables/leaks.csv")
    found = leaks[leaks["check"].eq("predictions of other tools equal to the truth")]
    assert found["status"].tolist() == ["leak"] * 2
    assert found["detail"].str.startswith("Truth on DEMO").all()
    (stated,) = leaks.loc[leaks["check"].eq("training slides of other tools"), "detail"]
    assert "Colours: the training slides of each fold; Twin: not stated" in stated


def test_a_changed_file_is_imported_again_and_a_bad_one_leaves_nothing(run):
    pipeline = run[0]
    path = pipeline.folder / "predictions/colours/patient/DEMO3.h5ad"
    kept = path.with_suffix(".kept")
    shutil.copy(path, kept)
    anndata.read_h5ad(path)[1:].copy().write_h5ad(path)
    target = "results/external/predictions/demo/patient/Colours"
    done = pipeline.snakemake("--cores", "1", target)
    kept.replace(path)
    assert done.returncode != 0
    fold = read_fold(pipeline.results / "folds/demo/patient/fold1/fold.h5")
    first = fold.barcode[fold.rows(TEST)][0]
    assert f"obs_names: found 1 of {len(fold.rows(TEST))} test spots of DEMO3 missing, first {first!r}" in done.stdout
    assert not (pipeline.folder / target).exists()
