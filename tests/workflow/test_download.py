"""Claims about the download as a rule, against a stand-in for the Hugging Face hub."""

import json
from hashlib import sha256

import pytest
from pipeline import Pipeline, example

from fakehub import COMMIT, CORRUPT, TOKEN, FakeHub
from spotwise.demo import CohortSize, SampleSpec, generate_cohort

pytestmark = pytest.mark.workflow

TARGETS = [f"results/paper/samples/{sample}/qc.json" for sample in ("ZEN36", "ZEN48")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two slides under HEST's names, as the repository would hold them."""
    folder = tmp_path_factory.mktemp("dataset")
    generate_cohort(folder, [SampleSpec("ZEN36", "7"), SampleSpec("ZEN48", "1")], seed=0, size=CohortSize(grid=6))
    return folder


@pytest.fixture
def pipeline(tmp_path):
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("sample\tcohort\tpatient\nZEN36\tREAD\t7\nZEN48\tREAD\t1\n")
    config = example("paper", tmp_path)
    config["samples"] = str(sheet)
    config["cohorts"] = {"READ": {}}
    config["data"] |= {"revision": COMMIT, "images": "slides"}
    return Pipeline(tmp_path, config)


def test_samples_come_from_the_pinned_revision_and_are_recorded_with_their_hashes(dataset, pipeline):
    with FakeHub(dataset) as hub:
        pipeline.run(*TARGETS, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
        asked = {path for _, path, _ in hub.requests}
    assert all(COMMIT in path for path in asked)
    for file in dataset.rglob("*.*"):
        path = file.relative_to(dataset)
        assert (pipeline.folder / "data" / path).read_bytes() == file.read_bytes()
    record = json.loads((pipeline.folder / "data/downloads/ZEN36.json").read_text())
    hashes = {entry["path"]: entry["sha256"] for entry in record}
    assert hashes["st/ZEN36.h5ad"] == sha256((dataset / "st/ZEN36.h5ad").read_bytes()).hexdigest()
    everything = [path for path in pipeline.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]


def test_a_corrupt_file_stops_the_run_and_does_not_stay(dataset, pipeline):
    with FakeHub(dataset) as hub:
        hub.faults["st/ZEN36.h5ad"] = CORRUPT
        done = pipeline.snakemake("--cores", "1", *TARGETS[:1], HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    told = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert "st/ZEN36.h5ad" in told[0]
    assert TOKEN not in done.stdout
    assert not [path for path in (pipeline.folder / "data").rglob("*") if path.is_file()]
