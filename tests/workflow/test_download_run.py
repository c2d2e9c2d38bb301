"""Claims about the download as a rule, against a stand-in for the Hugging Face hub."""

import json
import os
import signal
import time
from hashlib import sha256

import numpy as np
import pytest
from pipeline import Pipeline, example

from fakehub import COMMIT, CORRUPT, SLOW, TOKEN, FakeHub
from generatedcohort import generate_cohort
from spotwise.data.synthetic_tissue import CohortSize

pytestmark = pytest.mark.workflow

SAMPLES = ("ZEN36", "ZEN48")
TARGET = "results/paper/samples/ZEN36/qc.json"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two slides under HEST's names, as the repository would hold them."""
    folder = tmp_path_factory.mktemp("dataset")
    generate_cohort(folder, [("ZEN36", "7"), ("ZEN48", "1")], seed=0, size=CohortSize(grid=6))
    return folder


def pipeline_of(folder, samples):
    sheet = folder / "samples.tsv"
    sheet.write_text("sample\tcohort\tpatient\n" + "".join(f"{sample}\tREAD\t{sample}\n" for sample in samples))
    config = example("paper", folder)
    config["samples"] = str(sheet)
    config["cohorts"] = {"READ": {}}
    config["data"] |= {"revision": COMMIT, "images": "slides"}
    return Pipeline(folder, config)


@pytest.fixture
def pipeline(tmp_path):
    return pipeline_of(tmp_path, SAMPLES)


def manifest(pipeline, sample):
    return pipeline.folder / f"data/downloads/{COMMIT}/{sample}.json"


def errors(output):
    return [line for line in output.splitlines() if line.startswith("Error: ")]


def noise(samples, size):
    """Files of samples that hold nothing; enough where nothing reads them."""
    rng = np.random.default_rng(0)
    names = [
        name for sample in samples for name in (f"st/{sample}.h5ad", f"metadata/{sample}.json", f"wsis/{sample}.tif")
    ]
    return {name: rng.bytes(size if name.startswith("st/") else 10) for name in names}


def test_samples_come_from_the_pinned_revision_and_are_recorded_with_their_hashes(dataset, pipeline):
    with FakeHub(dataset) as hub:
        pipeline.run(TARGET, str(manifest(pipeline, "ZEN48")), HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
        asked = {request.path for request in hub.requests}
    assert all(COMMIT in path for path in asked)
    for file in dataset.rglob("*.*"):
        path = file.relative_to(dataset)
        assert (pipeline.folder / "data" / path).read_bytes() == file.read_bytes()
    hashes = {entry["path"]: entry["sha256"] for entry in json.loads(manifest(pipeline, "ZEN36").read_text())}
    assert hashes["st/ZEN36.h5ad"] == sha256((dataset / "st/ZEN36.h5ad").read_bytes()).hexdigest()
    everything = [path for path in pipeline.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]


@pytest.mark.long
def test_later_runs_need_no_hub_and_no_token_and_notice_what_changed(tmp_path):
    samples = ["S0", "S1"]
    pipeline = pipeline_of(tmp_path, samples)
    with FakeHub(noise(samples, 1000)) as hub:
        pipeline.run("verify_downloads", HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
    counts = tmp_path / "data/st/S0.h5ad"
    modified = counts.stat().st_mtime_ns
    counts.write_bytes(b"\0" + counts.read_bytes()[1:])
    done = pipeline.snakemake("--cores", "1", "verify_downloads", HF_TOKEN="", HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    assert f"{counts}: sha256: found" in done.stdout
    assert "Compare all" not in done.stdout
    # with its time put back, only reading it shows the change
    os.utime(counts, ns=(modified, modified))
    done = pipeline.snakemake("--cores", "1", "verify_downloads", HF_TOKEN="", HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    assert [line.split(": found")[0] for line in errors(done.stdout)] == [f"Error: {counts}: sha256"]


def test_a_corrupt_file_stops_the_run_and_does_not_stay(dataset, pipeline):
    with FakeHub(dataset) as hub:
        hub.faults["st/ZEN36.h5ad"] = CORRUPT
        done = pipeline.snakemake("--cores", "1", TARGET, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    (line,) = errors(done.stdout)
    assert "st/ZEN36.h5ad" in line
    assert TOKEN not in done.stdout
    left = [path.relative_to(pipeline.folder) for path in (pipeline.folder / "data").rglob("*") if path.is_file()]
    assert {path.parts[:2] for path in left} == {("data", ".partial")}


def test_files_copied_by_the_user_are_compared_and_kept_and_survive_a_failure(tmp_path):
    samples = [f"S{number}" for number in range(2)]
    files = noise(samples, 1000)
    pipeline = pipeline_of(tmp_path, samples)
    for name, content in files.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    targets = [str(manifest(pipeline, sample)) for sample in samples]
    with FakeHub(files) as hub:
        pass
    # without a hub they are refused, and not deleted as Snakemake would
    done = pipeline.snakemake("--cores", "2", targets[0], HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert done.returncode != 0
    assert "exists, but no manifest lists it" in errors(done.stdout)[0]
    for name, content in files.items():
        assert (tmp_path / "data" / name).read_bytes() == content
    with FakeHub(files) as hub:
        pipeline.run(*targets, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
        assert not hub.served
    # a change after that is noticed before the first job
    counts = tmp_path / "data/st/S0.h5ad"
    counts.write_bytes(b"\0" + files["st/S0.h5ad"][1:])
    done = pipeline.snakemake("--cores", "2", "verify_downloads", HF_TOKEN="", HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    assert f"{counts}: sha256: found" in done.stdout
    assert "Compare all" not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(("arguments", "limit"), [((), 4), (("--resources", "downloads=2"), 2)], ids=["default", "two"])
def test_no_more_downloads_run_at_once_than_allowed(tmp_path, arguments, limit):
    samples = [f"S{number}" for number in range(8)]
    pipeline = pipeline_of(tmp_path, samples)
    files = noise(samples, 5_000_000)
    with FakeHub(files) as hub:
        hub.faults = dict.fromkeys(files, SLOW)
        targets = [str(manifest(pipeline, sample)) for sample in samples]
        done = pipeline.snakemake(*targets, "--cores", "8", *arguments, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stdout
    assert hub.at_once == limit


@pytest.mark.long
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_run_leaves_nothing_in_place_and_the_next_one_downloads_the_rest(tmp_path, kill):
    pipeline = pipeline_of(tmp_path, ["S0", "S1"])
    files = noise(["S0", "S1"], 8_000_000)
    target = str(manifest(pipeline, "S0"))
    with FakeHub(files) as hub:
        hub.faults["wsis/S0.tif"] = SLOW
        files["wsis/S0.tif"] = hub.files["wsis/S0.tif"] = files["st/S1.h5ad"]
        running = pipeline.start("--cores", "1", target, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
        while hub.served["wsis/S0.tif"] < 2_000_000:
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, kill)
        running.wait()
        assert not (tmp_path / "data/st/S0.h5ad").exists()
        hub.faults.clear()
        hub.count_anew()
        if kill == signal.SIGKILL:
            assert pipeline.snakemake("--unlock").returncode == 0
        pipeline.run(target, HF_TOKEN=TOKEN, HF_ENDPOINT=hub.url)
        assert hub.served == {"wsis/S0.tif": 8_000_000}  # the counts had arrived before the kill
    assert (tmp_path / "data/wsis/S0.tif").read_bytes() == files["wsis/S0.tif"]
    assert not list((tmp_path / "data/.partial").rglob("*.incomplete"))
