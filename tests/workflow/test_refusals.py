"""Claims about errors found before the first job."""

from pathlib import Path

import pytest
from pipeline import REPOSITORY, Pipeline, example

from spotwise.config import prepare
from spotwise.models.registry import REGISTRY

pytestmark = pytest.mark.workflow


def refusal(pipeline, *arguments, **environment):
    """Return the error output of a run that must not start."""
    done = pipeline.snakemake("--cores", "2", *arguments, **environment)
    assert done.returncode != 0
    assert "Execute" not in done.stdout
    assert not pipeline.results.exists()
    return done.stdout


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c["training"].update(epoch=3), "training.epoch: found an unknown key"),
        (lambda c: c["methods"].update(CMRNet={"neighbours": [5]}), "methods.CMRNet.model: found 'CMRNet'"),
        (lambda c: c["methods"]["CMRCNet"]["options"].update(depth=3), "depth: found an unknown key"),
        (lambda c: c["cohorts"].update(nowhere={}), "cohorts.nowhere: found no sample of it"),
    ],
)
def test_a_faulty_configuration_stops_in_one_line_before_any_job(tmp_path, change, line):
    config = example("demo", tmp_path)
    change(config)
    output = refusal(Pipeline(tmp_path, config))
    assert line in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("rows", "protocols", "line"),
    [
        ("S1\tc\t\nS2\tc\tb\n", ["paper"], "patient: found nothing"),
        ("S1\tc\ta\nS2\tc\ta\n", ["paper", "patient"], "the patient protocol with one patient (a)"),
    ],
    ids=["no patient", "one patient"],
)
def test_a_faulty_sample_sheet_stops_in_one_line_before_any_job(tmp_path, rows, protocols, line):
    (tmp_path / "sheet.tsv").write_text("sample\tcohort\tpatient\n" + rows)
    config = example("demo", tmp_path)
    config |= {"samples": str(tmp_path / "sheet.tsv"), "cohorts": {"c": {}}, "protocols": protocols}
    del config["data"]["generated"]
    output = refusal(Pipeline(tmp_path, config))
    assert line in output
    assert "Traceback" not in output


def test_a_missing_file_of_a_local_folder_is_reported_before_any_job(tmp_path):
    config = example("her2st", tmp_path)
    assert "files of SPA145: found no st/SPA145.h5ad" in refusal(Pipeline(tmp_path, config))


def test_without_a_token_the_paper_stops_at_once_with_the_remedy(tmp_path):
    pipeline = Pipeline(tmp_path, example("paper", tmp_path))
    output = refusal(pipeline, "--resources", "gpu=1", HF_TOKEN="")
    assert "HF_TOKEN is not set" in output
    assert "export HF_TOKEN=" in output


def test_files_without_a_record_of_their_download_are_not_accepted_as_the_dataset(tmp_path):
    pipeline = Pipeline(tmp_path, example("paper", tmp_path))
    for sample in prepare(example("paper", tmp_path)):
        for name in ("st/{}.h5ad", "patches/{}.h5", "metadata/{}.json"):
            path = tmp_path / "data" / name.format(sample.sample)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert "HF_TOKEN is not set" in refusal(pipeline, HF_TOKEN="")


def test_the_whole_paper_is_planned_without_any_data(tmp_path):
    pipeline = Pipeline(tmp_path, example("paper", tmp_path))
    planned = pipeline.planned()
    config = example("paper", tmp_path)
    samples = prepare(config)
    folds = 22 + (4 + 2 + 2 + 4 + 3)  # slides; patients of all cohorts but PSC, whose one donor cannot be left out
    entries = [entry for entry in config["methods"].values() if "shuffled" not in entry]
    trained = sum(REGISTRY[entry["model"]].trained for entry in entries)
    seeds = 3
    assert planned["fetch_sample"] == len(samples) == 22
    assert planned["assemble_fold"] == folds
    assert planned["train"] == (trained * seeds + 1) * folds > 1000  # ShuffledTraining has one seed
    assert planned["shuffle_fold"] == folds
    assert not list(tmp_path.glob("results/*"))


def test_lists_on_the_command_line_keep_their_types(tmp_path):
    """As in the README: one seed is a third of the paper's trainings."""
    pipeline = Pipeline(tmp_path, example("paper", tmp_path))
    planned = pipeline.planned("--config", "seeds=[0]")
    once = planned["shuffle_fold"]  # ShuffledTraining, trained with one seed in any case
    assert 3 * (planned["train"] - once) == pipeline.planned()["train"] - once


def test_default_configuration_is_the_papers():
    assert example("paper", Path())["run"] == "paper"
    assert 'configfile: "config.yaml"' in (REPOSITORY / "Snakefile").read_text()
