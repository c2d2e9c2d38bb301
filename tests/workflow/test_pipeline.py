"""Claims about the pipeline as a whole, on generated slides of a few spots."""

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from pipeline import REPOSITORY, Pipeline, copy_workflow, example

from spotwise.data.folds import read_fold
from spotwise.inference.prediction_files import read_prediction
from spotwise.inference.retrieval import read_embeddings

pytestmark = pytest.mark.workflow

PATIENT = {"DEMO1": "Patient 1", "DEMO2": "Patient 1", "DEMO3": "Patient 2"}
FOLDS = 3 + 2  # a slide left out, a patient left out
K = [10, 500]
CONTROLS = ["TrainMean", "LibrarySize", "ShuffledTraining", "NoiseCeiling"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Three slides of 7 x 7 spots, one method, one epoch, run to its end."""
    folder = tmp_path_factory.mktemp("tiny")
    config = example("demo", folder)
    rows = [f"{sample}\tdemo\t{patient}\n" for sample, patient in PATIENT.items()]
    (folder / "samples.tsv").write_text("sample\tcohort\tpatient\n" + "".join(rows))
    config["samples"] = str(folder / "samples.tsv")
    config["data"]["generated"] |= {"spots_across": 7, "unlinked": []}
    config["expression"]["hvg_per_slide"] = 40
    config["training"]["epochs"] = 1
    config["methods"]["CMRCNet"]["neighbours"] = K
    config["methods"] = {"CMRCNet": config["methods"]["CMRCNet"]}
    del config["structure"], config["evaluation"], config["predict"]
    config["controls"] = CONTROLS
    pipeline = Pipeline(folder, config, copy_workflow(tmp_path_factory.mktemp("repository")))
    pipeline.run("paper")
    return pipeline


def folds(pipeline, protocol):
    return [read_fold(path) for path in sorted(pipeline.results.glob(f"folds/demo/{protocol}/*/fold.h5"))]


def test_every_table_and_figure_is_made(tiny):
    table = pd.read_csv(tiny.results / "tables/table1.csv")
    expected = ["CMRCNet-10", "CMRCNet-500", *CONTROLS]
    for protocol in ("paper", "patient"):
        assert table.loc[table["protocol"] == protocol, "predictor"].tolist() == expected
        figures = {path.name for path in (tiny.results / f"figures/demo/{protocol}").iterdir()}
        kinds = ["boxplot", "ceiling", "curves", "neighbours"]
        kinds += [f"{kind}_{sample}" for kind in ("correlation", "genes", "maps", "profiles") for sample in PATIENT]
        assert figures == {f"{kind}.{suffix}" for kind in kinds for suffix in ("pdf", "png")}
    figures = {path.name for path in (tiny.results / "figures").glob("*.*")}
    kinds = ["costs", "overview_paper", "overview_patient", "protocols"]
    assert figures == {f"{kind}.{suffix}" for kind in kinds for suffix in ("pdf", "png")}
    tables = {path.name for path in (tiny.results / "tables").iterdir()}
    paper = [*(f"table{number}" for number in range(1, 6)), "markers"]
    assert tables >= {f"{table}.{suffix}" for table in paper for suffix in ("csv", "md", "tex")}
    beyond = ["comparisons", "intervals", "measures", "paper_vs_ours", "leaks", "costs"]
    assert tables >= {f"{table}.csv" for table in beyond} | {"paper_vs_ours.html", "paper_vs_ours.md", "leaks.md"}
    assert tables >= {"samples.csv", "samples.md"}
    assert json.loads((tiny.results / "provenance.json").read_text())["run"] == "demo"


def test_the_table_is_the_mean_of_correlations_computed_anew_from_the_predictions(tiny):
    slides = []
    for path in (tiny.results / "predictions/demo/patient/CMRCNet").glob("fold*/seed0/CMRCNet-10/*.h5ad"):
        prediction = read_prediction(path)
        ranked = (prediction.var["is_measured"] & prediction.var["is_hvg"]).to_numpy()
        rank = (-prediction.var["reference_var"].where(ranked, -1)).argsort(kind="stable")[: min(50, ranked.sum())]
        observed, predicted = prediction.layers["observed"], prediction.X
        slides.append((path.parts[-4], [np.corrcoef(observed[:, g], predicted[:, g])[0, 1] for g in rank]))
    means = pd.DataFrame([(fold, np.mean(np.nan_to_num(pcc))) for fold, pcc in slides]).groupby(0)[1].mean()
    table = pd.read_csv(tiny.results / "tables/table1.csv").set_index(["protocol", "predictor"])
    assert table.loc[("patient", "CMRCNet-10"), "HVG_top50"] == pytest.approx(means.mean(), abs=2e-6)


@pytest.mark.parametrize("protocol", ["paper", "patient"])
def test_no_bank_holds_a_test_spot(tiny, protocol):
    for fold in folds(tiny, protocol):
        tested = {*zip(fold.sample[fold.rows("test")], fold.barcode[fold.rows("test")], strict=True)}
        folder = tiny.results / f"predictions/demo/{protocol}/CMRCNet/fold{fold.fold}/seed0"
        row = read_embeddings(folder / "bank.safetensors").row
        assert not tested & {*zip(fold.sample[row], fold.barcode[row], strict=True)}
        assert sorted(row) == sorted(fold.rows("train", "val"))
        assert sorted(read_embeddings(folder / "queries.safetensors").row) == sorted(fold.rows("test"))


def test_no_test_patient_enters_a_patient_fold_its_panel_or_its_validation(tiny):
    for fold in folds(tiny, "patient"):
        tested = {PATIENT[sample] for sample in fold.sample[fold.rows("test")]}
        assert not tested & {PATIENT[sample] for sample in fold.sample[fold.rows("train", "val")]}
        log = (tiny.results / f"logs/assemble_fold/demo/patient/fold{fold.fold}.log").read_text()
        chosen_on = log.split("chosen on ")[1].splitlines()[0].split(", ")
        assert not tested & {PATIENT[sample] for sample in chosen_on}


def test_a_bank_smaller_than_k_is_used_whole_and_the_table_says_so(tiny):
    bank = {len(fold.bank) for protocol in ("paper", "patient") for fold in folds(tiny, protocol)}
    assert max(bank) < 500
    table = pd.read_csv(tiny.results / "tables/table1.csv").set_index(["protocol", "predictor"])
    smallest = min(len(fold.bank) for fold in folds(tiny, "patient"))
    assert table.loc[("patient", "CMRCNet-500"), "k_used_min"] == smallest
    assert f"k_used={smallest}" in (tiny.results / "tables/table1.md").read_text()


def test_shuffled_training_is_trained_on_shuffled_expression_and_stands_among_the_controls(tiny):
    folder = tiny.results / "models/demo/patient/ShuffledTraining"
    described = [json.loads(path.read_text()) for path in folder.glob("fold*/seed0/model.json")]
    assert [(one["method"], one["shuffled"]) for one in described] == [("CMRCNet", "slide")] * 2
    for fold in folds(tiny, "patient"):
        shuffled = read_fold(tiny.results / f"folds/demo/patient/fold{fold.fold}/fold_shuffled_slide.h5")
        moved = (shuffled.expression != fold.expression).any(axis=1)
        assert not moved[fold.rows("test")].any()
        assert moved[fold.bank].mean() > 0.9
    table = pd.read_csv(tiny.results / "tables/table1.csv").set_index(["protocol", "predictor"])
    for protocol in ("paper", "patient"):
        row = table.loc[protocol, "ShuffledTraining"]
        assert (row["kind"], row["k"]) == ("control", 10)  # K of the reference
        assert "shuffled over the spots of each training slide" in row["note"]
    compared = pd.read_csv(tiny.results / "tables/comparisons.csv")
    assert set(compared.loc[compared["second"].eq("ShuffledTraining"), "first"]) == {"CMRCNet-10", "CMRCNet-500"}
    assert "ShuffledTraining" not in set(
        pd.read_csv(tiny.results / "tables/table5.csv").query("kind == 'method'")["predictor"]
    )


def test_a_second_run_does_nothing(tiny):
    assert "Nothing to be done" in tiny.run("paper")


def rules_with_new_code(pipeline, module, edit):
    """Plan the run with an edited module; return the rules that rerun for it, without those that follow them."""
    path = pipeline.repository / f"src/spotwise/{module}.py"
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(edit(before), encoding="utf-8")
        done = pipeline.snakemake("--dry-run", "paper")
    finally:
        path.write_text(before, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    found = re.search(r"^Rules with provenance triggered jobs: (.+)$", done.stdout, re.MULTILINE)
    return set(found[1].split()) if found else set()


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("data/fingerprints", {"fingerprint_sample"}),
        ("evaluation/predictor_comparisons", {"comparisons", "paper_vs_ours"}),
        ("training/loop", {"train"}),
        ("inference/prediction", {"predict_test_slides", "predict_controls"}),
        ("models/cmrcnet", {"train"}),  # by the method's name
        ("models/micnet", set()),  # a method that is not part of the run
        ("reporting/figures/style", {"costs", "draw_section", "draw_slide", "draw_overview"}),
    ],
)
def test_a_changed_module_reruns_the_rules_that_use_it_and_no_other(tiny, module, rules):
    assert rules_with_new_code(tiny, module, lambda code: code + "\n\nUNUSED = 1\n") == rules


def test_a_changed_docstring_or_comment_reruns_nothing(tiny):
    assert (
        rules_with_new_code(tiny, "training/loop", lambda code: '"""Another summary.' + code[3:] + "# end\n") == set()
    )


def test_a_comment_in_a_script_reruns_nothing_under_the_default_profile(tiny):
    script = tiny.repository / "workflow_scripts/train.py"
    code, times = script.read_text(encoding="utf-8"), script.stat()
    profile = ["--workflow-profile", str(REPOSITORY / "profiles/default"), "paper"]
    try:
        script.write_text(code + "# end\n", encoding="utf-8")
        assert tiny.planned(*profile) == {}
        script.write_text(code + "UNUSED = 1\n", encoding="utf-8")
        assert tiny.planned(*profile)["train"] == 2 * FOLDS  # of the method and of ShuffledTraining
    finally:
        script.write_text(code, encoding="utf-8")
        os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))  # Snakemake's own trigger goes by it


def test_the_audit_finds_what_the_paper_protocol_prescribes_and_no_leak(tiny):
    leaks = pd.read_csv(tiny.results / "tables/leaks.csv")
    assert not leaks["status"].isin(["leak", "not checked"]).any()
    shared = leaks[leaks["check"].eq("patients on both sides") & leaks["n"].gt(0)]
    assert set(shared["protocol"]) == {"paper"}
    assert set(shared["fold"].astype(int)) == {0, 1}  # DEMO1 and DEMO2 are of one patient


def test_nothing_of_the_demo_is_called_reproduced(tiny):
    compared = pd.read_csv(tiny.results / "tables/paper_vs_ours.csv")
    assert len(compared) == 357
    assert set(compared["verdict"]) == {"not run"}


def test_another_k_trains_nothing_again(tiny):
    tiny.config["methods"]["CMRCNet"]["neighbours"] = [*K, 20]
    planned = tiny.planned()
    tiny.config["methods"]["CMRCNet"]["neighbours"] = K
    assert planned["predict_test_slides"] == 2  # one job per protocol
    assert not {"train", "assemble_fold"} & set(planned)


def test_a_changed_training_parameter_trains_again(tiny):
    tiny.config["methods"]["CMRCNet"]["training"] = {"learning_rate": 0.01}
    planned = tiny.planned()
    del tiny.config["methods"]["CMRCNet"]["training"]
    assert planned["train"] == 2 * FOLDS  # the method, and the control that is trained alike
    assert "assemble_fold" not in planned


def test_settings_that_do_not_affect_results_rerun_nothing(tiny):
    before = dict(tiny.config["training"])
    tiny.config["training"] |= {"save_every_minutes": 5, "memory": "host"}
    planned = tiny.planned()
    tiny.config["training"] = before
    assert planned == {}


def test_a_damaged_slide_ends_in_one_line_and_leaves_no_partial_file(tiny, tmp_path):
    shutil.copytree(tiny.folder / "data", tmp_path / "data")
    slide = tmp_path / "data/wsis/DEMO1.tif"
    slide.write_bytes(slide.read_bytes()[:1000])
    config = tiny.config | {"data": {"source": "local", "root": str(tmp_path / "data")}}
    pipeline = Pipeline(tmp_path, config)
    done = pipeline.snakemake("--cores", "2", "results/demo/samples/DEMO1/patches.h5")
    assert done.returncode != 0
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert str(slide) in errors[0]
    assert not [path for path in pipeline.results.glob("samples/DEMO1/*") if "patches" in path.name]


def test_hest_patches_are_used_as_they_are(tiny, tmp_path):
    """Patches in another order, of fewer spots, and without the slides: joined by barcode."""
    shutil.copytree(tiny.folder / "data", tmp_path / "data", ignore=shutil.ignore_patterns("wsis"))
    (tmp_path / "data/patches").mkdir()
    rng = np.random.default_rng(0)
    for sample in PATIENT:
        with (
            h5py.File(tiny.results / f"samples/{sample}/patches.h5") as ours,
            h5py.File(tmp_path / f"data/patches/{sample}.h5", "w") as theirs,
        ):
            kept = rng.permutation(len(ours["img"]))[:-3]
            for name in ("img", "coords", "barcode"):
                theirs[name] = ours[name][:][kept]
    config = tiny.config | {"data": {"source": "local", "root": str(tmp_path / "data")}}
    pipeline = Pipeline(tmp_path, config)
    assert not {"extract_patches", "generate_sample"} & set(pipeline.planned())
    pipeline.run("results/demo/folds/demo/paper/fold0/fold.h5")
    fold = read_fold(pipeline.results / "folds/demo/paper/fold0/fold.h5")
    for sample in PATIENT:
        rows = np.flatnonzero(fold.sample == sample)
        with h5py.File(tmp_path / f"data/patches/{sample}.h5") as theirs:
            barcodes = theirs["barcode"].asstr()[:].ravel()
        assert sorted(fold.barcode[rows]) == sorted(barcodes)
        assert (barcodes[fold.patch[rows]] == fold.barcode[rows]).all()


def test_the_report_builds_and_holds_figures_and_table(tiny):
    tiny.run("--report", str(tiny.folder / "report.zip"))
    with zipfile.ZipFile(tiny.folder / "report.zip") as report:
        names = [Path(name).name for name in report.namelist()]
    assert "report.html" in names
    files = [path for path in tiny.results.rglob("*") if path.suffix == ".png" and "figures" in path.parts]
    assert {path.name for path in files} <= set(names)
    tables = ["table1", "table2", "table3", "table4", "table5", "markers", "comparisons", "measures", "leaks"]
    assert {f"{table}.csv" for table in tables} | {"paper_vs_ours.html", "provenance.json"} <= set(names)


def test_every_model_says_how_it_was_made(tiny):
    summary = json.loads((tiny.results / "models/demo/patient/CMRCNet/fold0/seed0/summary.json").read_text())
    assert summary["protocol"] == "patient"
    assert summary["options"]["epochs"] == 1
    assert {"torch", "timm"} <= set(summary["versions"])
    bank = read_embeddings(tiny.results / "predictions/demo/patient/CMRCNet/fold0/seed0/bank.safetensors")
    np.testing.assert_allclose(np.linalg.norm(bank.unit, axis=1), 1, rtol=1e-5)
