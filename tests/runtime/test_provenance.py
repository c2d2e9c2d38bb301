"""Claims about provenance.json: what it contains, how time adds up, and what must never appear in it."""

import hashlib
import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from spotwise.runtime.code_version import module_hash
from spotwise.runtime.provenance import REDACTED_PATH, REDACTED_TOKEN, RunFiles, redact, run_record
from spotwise.workflow import StructurePlan
from workflow.planning import planned

ROOT = Path(__file__).parents[2]
HEADER = "s\th:m:s\tmax_rss\n"
GPU = "NVIDIA H200"
SUMMARIES = {"c/paper/STNet/fold0/seed0": GPU, "c/paper/BLEEP/fold0/seed0": "cpu", "c/paper/Ridge/fold0/seed0": None}
BENCHMARKS = {
    "train/c/paper/STNet/fold0/seed0": 100.5,
    "train/c/paper/BLEEP/fold0/seed0": 40.0,
    "predict_test_slides/c/paper/BLEEP": 3.0,
    "predict_test_slides/c/paper/STNet": 5.0,
    "fit_frozen/c/paper/Ridge/fold0/seed0": 2.25,
    "embed_patches/resnet18/S1": 7.0,
    "assemble_fold/c/paper/fold0": 1.5,
    "assemble_fold/c/paper/fold1": 2.0,
    "audit": 9.0,
}


@pytest.fixture
def results(tmp_path):
    """Write the files of a small run that its record is made from."""
    folder = tmp_path / "results/r"
    for name, device in SUMMARIES.items():
        path = folder / f"models/{name}/summary.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"seconds": 1.0} | ({"device": device} if device else {})))
    for name, seconds in BENCHMARKS.items():
        path = folder / f"benchmarks/{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{HEADER}{seconds}\t0:00:01\t12.5\n")
    (folder / "tables").mkdir()
    (folder / "tables/table1.csv").write_bytes(b"cohort\n")
    return folder


def record(results, config=None, samples=(), **parts):
    files = RunFiles(
        results=results,
        tables=[results / "tables/table1.csv"],
        summaries=[results / f"models/{name}/summary.json" for name in SUMMARIES],
        fingerprints=written(results, "fingerprint", parts.get("fingerprints", {})),
        downloads=written(results, "download", parts.get("downloads", {})),
        labels=parts.get("labels", {}),
    )
    return run_record({"run": "r", **(config or {})}, samples, files, "9.99")


def written(results, name, contents):
    """JSON files by sample."""
    paths = {sample: results / f"{sample}_{name}.json" for sample in contents}
    for sample, path in paths.items():
        path.write_text(json.dumps(contents[sample]))
    return paths


# --- content ----------------------------------------------------------------------------------------------------------


def test_time_adds_up_by_rule_and_by_device(results):
    time = record(results)["time"]
    assert time["train"] == {"jobs": 2, "seconds": 140.5, "gpu_seconds": 100.5}
    assert time["predict_test_slides"] == {"jobs": 2, "seconds": 8.0, "gpu_seconds": 5.0}  # BLEEP on the CPU
    assert time["assemble_fold"] == {"jobs": 2, "seconds": 3.5, "gpu_seconds": 0}
    assert set(time) == {name.split("/")[0] for name in BENCHMARKS}


def test_every_job_has_its_seconds_and_device(results):
    jobs = record(results)["jobs"]
    found = {
        f"{rule}/{job}" if job != "all" else rule: facts["seconds"]
        for rule, by in jobs.items()
        for job, facts in by.items()
    }
    assert found == BENCHMARKS
    assert jobs["train"]["c/paper/STNet/fold0/seed0"]["device"] == GPU
    assert jobs["fit_frozen"]["c/paper/Ridge/fold0/seed0"]["device"] == "cpu"
    # no training of its own, and trainings on two devices: not known, and no GPU time
    assert jobs["embed_patches"]["resnet18/S1"]["device"] == f"{GPU} or cpu"
    assert record(results)["time"]["embed_patches"]["gpu_seconds"] == 0


def test_embedding_ran_where_all_trainings_did(results):
    (results / "models/c/paper/BLEEP/fold0/seed0/summary.json").write_text(json.dumps({"device": GPU}))
    found = record(results)
    assert found["jobs"]["embed_patches"]["resnet18/S1"]["device"] == GPU
    assert found["time"]["embed_patches"]["gpu_seconds"] == 7.0
    assert found["hardware"]["gpus"] == [GPU]


def test_inputs_and_tables_are_recorded_with_their_hashes(results):
    files = [{"path": "st/S1.h5ad", "size": 3, "sha256": "0" * 64}]
    downloads = {"S1": [{"path": "st/S1.h5ad", "sha256": "0" * 64, "commit": "a" * 40}]}
    timed = {"S1": [downloads["S1"][0] | {"modified_ns": 1_700_000_000_000_000_000}]}
    found = record(results, fingerprints={"S1": {"files": files, "picture": ["00"]}}, downloads=timed)
    assert found["inputs"] == {"S1": files}
    assert found["downloads"] == downloads
    assert found["tables"] == {"tables/table1.csv": hashlib.sha256(b"cohort\n").hexdigest()}


def test_software_is_what_is_installed(results):
    found = record(results)
    assert found["software"]["snakemake"] == "9.99"
    assert found["software"]["packages"]["numpy"] == metadata.version("numpy")
    assert found["software"]["packages"]["huggingface_hub"] == metadata.version("huggingface_hub")
    assert found["code"]["spotwise.models.bleep"] == module_hash("spotwise.models.bleep")
    assert len(found["code"]) == len(list((ROOT / "src/spotwise").rglob("*.py")))
    assert found["hardware"]["cores"] > 0
    assert found["hardware"]["memory_gb"] > 0.1


def test_the_same_run_gives_the_same_bytes(results):
    assert json.dumps(record(results)) == json.dumps(record(results))


# --- redaction --------------------------------------------------------------------------------------------------------


def test_the_record_holds_no_token_home_or_personal_name(results, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_PlantedToken12345")
    monkeypatch.setenv("HOME", "/home/annasecret")
    monkeypatch.setenv("USER", "annasecret")
    monkeypatch.setattr("socket.gethostname", lambda: "hostsecret")
    monkeypatch.setattr("platform.node", lambda: "hostsecret")
    planted = {
        "samples": "/home/annasecret/sheet.tsv",
        "data": {"root": "~/data annasecret/hest", "repo": "MahmoodLab/hest"},
        "encoders": {
            "uni": {"timm": "local-dir:/home/annasecret/my models/uni", "checkpoint": "../annasecret/uni.bin"},
            "x": {"checkpoint": "file:///home/annasecret/x", "note": "hf_PlantedToken12345"},
        },
        "methods": [{"options": {"checkpoint": "C:\\Users\\annasecret\\x"}}, "\\\\hostsecret\\share"],
        "/home/annasecret": 1,
    }
    sheet = [{"sample": "S1", "note": "see /home/annasecret/notes (annasecret)", "technology": "Visium"}]
    found = record(results, planted, sheet)
    text = json.dumps(found)
    assert not re.findall(r".{20}(?:secret|Planted).{20}", text)
    assert str(results) not in text
    assert str(ROOT) not in text
    assert found["config"]["data"] == {"root": REDACTED_PATH, "repo": "MahmoodLab/hest"}
    assert found["config"]["encoders"]["x"]["note"] == REDACTED_TOKEN
    assert found["samples"][0] == {"sample": "S1", "note": f"see {REDACTED_PATH}", "technology": "Visium"}


@pytest.mark.parametrize(
    "text",
    [
        "resources/samples.tsv",
        "data/hest",
        "hf-hub:MahmoodLab/uni",
        "https://example.org/a/b",
        "and/or",
        "1 / 2",
        "a.b: c",
        "",
    ],
)
def test_texts_without_private_paths_stay(text):
    assert redact({text: [text, 1, None, True]}) == {text: [text, 1, None, True]}


@pytest.mark.parametrize("token", ["hf_abcdefgh12345678", "an own secret"])
def test_tokens_are_removed_anywhere_in_a_text(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert redact(["x", f"user:{token}@hub"]) == ["x", f"user:{REDACTED_TOKEN}@hub"]


# --- agreement with the rules -----------------------------------------------------------------------------------------

# Rules whose time does not count: these, and those in reporting.smk, which only format results
UNTIMED = {
    "check",
    "provenance",
    "verify_downloads",
    "tables_of_structure",
    "draw_structure",
    "draw_cohort_umap",
    "structure_page",
}


def rules():
    pattern = r"^( *)(?:use rule \w+ as (\w+) with|rule (\w+)):\n((?:\n|\1 .*\n)*)"
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for _, derived, name, body in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
            yield path.stem, derived or name, body


def test_rules_that_compute_are_timed_under_the_name_of_their_log():
    assert len(list(rules())) > 30
    for file, name, text in rules():
        log = re.search(r'log:\s+"<results>/logs/(.+)\.log"', text)[1]
        timed = re.search(r'benchmark:\s+"<results>/benchmarks/(.+)\.tsv"', text)
        assert log.split("/")[0] == name
        if timed:
            assert timed[1] == log
        else:
            assert file in ("reporting", "hest_bench") or name in UNTIMED


def test_the_record_depends_on_nothing_that_it_makes_itself(tmp_path):
    inputs = next(text for _, name, text in rules() if name == "provenance").split("output:")[0]
    assert "benchmarks" not in inputs
    assert "provenance" not in inputs
    plan = planned(tmp_path)
    listed = [*plan.tables, *plan.figures, *StructurePlan(plan).outputs]
    assert len(listed) > 30
    assert "provenance.json" not in listed
