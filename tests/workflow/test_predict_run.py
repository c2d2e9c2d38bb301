"""Claims about `snakemake predict`: a slide without counts in, its expression and what can be believed of it out."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pipeline import Pipeline, copy_workflow, example

import spotwise
from spotwise.data.synthetic_sample import generate_sample
from spotwise.data.synthetic_tissue import CohortSize

pytestmark = pytest.mark.workflow

PREDICTORS = ["Ridge", "KNNImage"]
ACROSS = 9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four small slides, methods that are fitted in a second, and one slide without counts."""
    folder = tmp_path_factory.mktemp("predict")
    config = example("demo", folder)
    config["data"]["generated"] |= {"spots_across": ACROSS, "unlinked": []}
    config["expression"]["hvg_per_slide"] = 60
    config["protocols"] = ["patient"]
    config["methods"] = {name: config["methods"][name] for name in PREDICTORS}
    config["controls"] = ["TrainMean"]  # the control that tells chance joins by itself
    config["predict"] = {"slides": [{"slide": "NEW", "patient": "Patient 9"}], "from": {"demo": PREDICTORS}}
    del config["structure"]
    pipeline = Pipeline(folder, config, copy_workflow(tmp_path_factory.mktemp("repository")))
    pipeline.run("predict")
    return pipeline


@pytest.fixture
def slide(run):
    return run.results / "predict/NEW"


def read(slide, predictor="Ridge"):
    return anndata.read_h5ad(slide / f"{predictor}.h5ad")


def test_everything_of_the_slide_is_made_and_no_table(run, slide):
    names = {path.name for path in slide.iterdir()}
    files = (
        "summary.html",
        "spots.geojson",
        "tissue.geojson",
        "tissue.png",
        "Ridge.h5ad",
        "KNNImage.h5ad",
        "slide.json",
    )
    assert {*files, "maps", "likeness", "patches.h5", "spots.h5ad"} <= names
    assert not (run.results / "tables").exists()
    assert run.planned("predict") == {}


def test_the_prediction_says_what_its_values_and_genes_are(slide):
    prediction = read(slide)
    facts = prediction.uns["spotwise"]
    assert facts["units"] == "log(1 + x), x: counts of a spot scaled to the median of its slide"
    assert (facts["predictor"], facts["cohort"], facts["slide"]) == ("Ridge", "demo", "NEW")
    assert {"pcc", "pcc_low", "pcc_high", "ceiling", "positive_share", "reliable"} <= set(prediction.var)
    assert {"array_row", "array_col", "tissue_share", "similarity", "unlike"} <= set(prediction.obs)
    assert (prediction.obs["tissue_share"] >= 0.5).all()
    assert list(prediction.uns["spatial"]) == ["NEW"]
    assert np.isfinite(prediction.X).all()


def test_genes_that_are_called_reliable_follow_the_counts_that_nobody_saw(slide, tmp_path):
    """The generator draws the counts of the slide, too, which the pipeline has not."""
    generate_sample(tmp_path, "NEW", "Patient 9", 0, size=CohortSize(grid=ACROSS))
    counts = anndata.read_h5ad(tmp_path / "st/NEW.h5ad")
    counts.var_names_make_unique()
    prediction = read(slide)
    genes = prediction.var_names.intersection(counts.var_names)
    distance = np.linalg.norm(counts.obsm["spatial"][:, None] - prediction.obsm["spatial"], axis=2)
    total = np.asarray(counts.X.sum(axis=1)).ravel()
    near = (distance.min(axis=1) * prediction.uns["spotwise"]["um_per_px"] < 60) & (total > 100)
    observed = np.log1p(counts[near, genes].X.toarray() / total[near, None] * np.median(total))
    predicted = prediction[:, genes].X[distance[near].argmin(axis=1)]
    pcc = pd.Series([np.corrcoef(*pair)[0, 1] for pair in zip(observed.T, predicted.T, strict=True)], genes)
    reliable = prediction.var.loc[genes, "reliable"]
    assert reliable.sum() >= 5
    assert pcc[reliable].mean() > 0.3
    linked = counts.var.loc[genes, "linked"]
    assert pcc[reliable].mean() > pcc[~linked].mean() + 0.3


def test_the_models_folder_predicts_the_same_from_python(run, slide, tmp_path):
    model = spotwise.load_model(run.results / "final/demo/Ridge")
    found = model.predict(run.folder / "data/unsequenced/NEW.tif", device="cpu")
    expected = read(slide)
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-4, atol=1e-5)
    assert list(found.uns["spotwise"]["verdict"]) == list(expected.uns["spotwise"]["verdict"])


def test_another_grid_trains_nothing_again(run):
    run.config["predict"]["grid"] = {"layout": "square", "pitch_um": 150}
    planned = run.planned("predict")
    run.config["predict"].pop("grid")
    assert planned["place_spots"] == 1
    assert not {"fit_frozen", "rate_genes", "assemble_model", "find_tissue", "describe_cohort"} & set(planned)


def test_a_blank_picture_stops_with_one_line_and_leaves_nothing(run, tmp_path):
    Image.new("RGB", (2000, 2000), (245, 244, 246)).save(tmp_path / "blank.png")
    given = run.config["predict"]["slides"]
    run.config["predict"]["slides"] = [{"path": str(tmp_path / "blank.png"), "um_per_px": 0.5}]
    done = run.snakemake("--cores", "2", "predict")
    run.config["predict"]["slides"] = given
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "blank.png: " in line]
    assert "found" in line
    assert not (run.results / "predict/blank/slide.json").exists()


def test_the_verdict_on_a_slide_like_the_others_is_good(slide):
    verdict = json.loads((slide / "likeness/demo.json").read_text())
    assert verdict["scale"]["alike"] is not False
    assert verdict["stain"]["alike"]
