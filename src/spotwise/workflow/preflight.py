"""What a long run needs, checked before it starts: access, GPU, disk, memory and hours.

Estimates are orders of magnitude. They scale figures of the paper's configuration by what a run configures, and each
line names its assumption.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import h5py
import huggingface_hub
import torch

from spotwise.data import hest
from spotwise.data.credentials import TOKEN_VARIABLE, optional_token, token_from_environment
from spotwise.data.hub import Hub, RetryPolicy
from spotwise.data.spot_grid import grid_pitch
from spotwise.data.unsequenced_slides import slide_facts
from spotwise.errors import InputError, SetupError, one_line
from spotwise.evaluation.training_costs import benchmark_seconds
from spotwise.models import registry
from spotwise.models.ctranspath import FILE as CTRANSPATH_FILE
from spotwise.models.ctranspath import REPO as CTRANSPATH_REPO
from spotwise.models.encoder_names import CTRANSPATH, RESNET50, RESNET50_STAGE3, is_imagenet_small
from spotwise.models.encoders import timm_config
from spotwise.models.imagenet_small import PACKAGE, weights_file
from spotwise.models.pathology import published
from spotwise.models.pretrained_weights import PROBE_SECONDS, error_message
from spotwise.models.sizes import Sizes
from spotwise.models.stnet import WEIGHTS as STNET_WEIGHTS
from spotwise.runtime.memory import free_host
from spotwise.workflow.bench_plan import BenchPlan
from spotwise.workflow.external_plan import ExternalPlan
from spotwise.workflow.plan import Plan
from spotwise.workflow.predict_plan import PredictPlan
from spotwise.workflow.structure_plan import StructurePlan

OK, WARNING, PROBLEM = "ok", "warning", "problem"

GENES, SPOTS = 3500, 3000  # of a panel and of a slide, assumed where the data are not there yet
SAMPLE_BYTES = {True: 0.8e9, False: 3.4e9}  # a sample of HEST with patches, with its slide, by HEST's index
BENCH_TASK_BYTES = 4.5e9  # a task of the HEST benchmark, 40 GB in all
PREDICTION_BYTES = 28e6 / 5000  # per spot: 28 MB on average for 5,000 spots
PATCH_BYTES = 224 * 224 * 3
FEATURES = 2048
# Drawing a slide of 25,000 spots took 10.8 GB with 23 methods, 1.3 GB with two
DRAWING_BYTES, DRAWING_BYTES_PER_SPOT = 0.5e9, 0.45e9 / 25_000
# The paper with three seeds: its sum of weights (GB) x epochs x training slides over all trainings, and its GPU-hours
# by counted operations and an assumed throughput of each device
PAPER_WORK = 83_271
HOURS = {"A5000": 600, "A100": 280, "H100": 150}
CPU_FACTOR = 80  # by which two CPU cores are slower: 45 by the trainings of the demo, 145 by operations per second


@dataclass(frozen=True)
class Finding:
    """Result of a check, with the remedy where there is something to do."""

    name: str
    status: str
    text: str


@dataclass(frozen=True)
class Weights:
    """Published weights that a run starts from."""

    name: str
    pretrained: str
    checkpoint: str


def check(plan: Plan, structure: StructurePlan) -> list[Finding]:
    """Check everything that can be known before the first job."""
    bench = BenchPlan(plan)
    findings = [dataset_access(plan)] if plan.samples else []
    findings += [benchmark_access(bench)] if bench.tasks else []
    findings += [*encoder_access(plan, structure), gpu(plan.config["training"]["device"])]
    if not plan.samples:
        return findings
    estimate = Estimate(plan, structure)
    findings += other_tools(ExternalPlan(plan))
    findings += slides_to_predict(PredictPlan(plan, "config"))
    return [*findings, *disk(plan, estimate), memory(estimate), hours(plan, estimate)]


def report(findings: list[Finding]) -> str:
    """Lay out findings, one aligned line each."""
    width = max(len(one.name) for one in findings)
    return "\n".join(f"{one.status:<8} {one.name:<{width}}  {one_line(one.text)}" for one in findings)


# --- Access -----------------------------------------------------------------------------------------------------------


def dataset_access(plan: Plan) -> Finding:
    """Check that samples are there, or that token and network give access to them."""
    data, name = plan.config["data"], "dataset"
    if data["source"] != "huggingface":
        return Finding(name, OK, f"nothing to download (data.source is {data['source']})")
    missing = [sample for sample in plan.samples if not Path(plan.manifest.format(sample=sample)).exists()]
    if not missing:
        return Finding(name, OK, f"all {len(plan.samples)} samples are in {plan.data}")
    path = plan.repository_files(missing[0])[0]
    try:
        token = token_from_environment()
        hub = Hub(data["repo"], data["revision"], token, None, RetryPolicy(attempts=1))
        hub.remote_file(path, Path(plan.data) / path)
    except (InputError, SetupError) as error:
        return Finding(name, PROBLEM, str(error))
    return Finding(name, OK, f"{TOKEN_VARIABLE} gives access to {data['repo']}, {len(missing)} samples to download")


def benchmark_access(bench: BenchPlan) -> Finding:
    """Check that the tasks of the HEST benchmark are there, or that the hub gives access to them."""
    name = "HEST benchmark"
    missing = [task for task, path in bench.manifests.items() if not Path(path).exists()]
    if not missing:
        return Finding(name, OK, f"all {len(bench.tasks)} tasks are in {bench.root}")
    needed, free = len(missing) * BENCH_TASK_BYTES, shutil.disk_usage(_existing(Path(bench.root))).free
    to_come = f"{len(missing)} tasks to download, about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB free"
    try:
        repo, revision = bench.settings["repo"], bench.settings["revision"]
        Hub(repo, revision, optional_token(), None, RetryPolicy(attempts=1)).files_below(missing[0])
    except (InputError, SetupError) as error:
        return Finding(name, PROBLEM, str(error))
    if needed > free:
        return Finding(name, PROBLEM, f"{to_come}: make room, or put hest_bench.root on a larger disk")
    return Finding(name, OK, f"access to {repo}; {to_come}")


def encoder_access(plan: Plan, structure: StructurePlan) -> Iterator[Finding]:
    """Check that the published weights of each encoder are there or can be downloaded."""
    for weights in dict.fromkeys(wanted_weights(plan, structure)):
        name = f"encoder {weights.name}"
        if weights.pretrained == "no":
            yield Finding(name, OK, "random weights, as configured")
        elif weights.checkpoint:
            yield Finding(name, OK, f"weights from {weights.checkpoint}")
        elif is_imagenet_small(weights.name):
            yield _installed(name, weights)
        else:
            yield _on_the_hub(name, weights)


def wanted_weights(plan: Plan, structure: StructurePlan) -> Iterator[Weights]:
    """Yield what each method, and the sections `structure` and `hest_bench`, start from."""
    encoders = plan.config["encoders"]
    used = [entry["encoder"] for entry in plan.config["methods"].values() if "encoder" in entry]
    used += plan.config.get("hest_bench", {}).get("encoders", [])
    used += [structure.settings["encoder"]] if structure.slides and structure.needs_embedding else []
    for key in used:
        yield Weights(encoders[key]["timm"], encoders[key]["pretrained"], encoders[key]["checkpoint"])
    for method, entry in plan.config["methods"].items():
        model = plan.registered(method).module
        options = registry.options(entry["model"], entry["options"])
        pretrained, checkpoint = getattr(options, "pretrained", "no"), getattr(options, "checkpoint", "")
        known = getattr(options, "published", True) or checkpoint
        names = {"ctranspath": CTRANSPATH, "stnet": STNET_WEIGHTS}
        if pretrained != "no" and known and timm_or(names, model, options):
            yield Weights(timm_or(names, model, options), pretrained, checkpoint)


def timm_or(names: Mapping[str, str], model: str, options: object) -> str:
    """Return the encoder of a trained method: a fixed one, or that of its option."""
    name = names.get(model, getattr(options, "encoder", ""))
    return name if model in names or timm_config(name) else ""


def _installed(name: str, weights: Weights) -> Finding:
    try:
        weights_file()
    except (InputError, SetupError) as problem:
        replaceable = isinstance(problem, SetupError) and weights.pretrained != "required"
        return Finding(name, WARNING if replaceable else PROBLEM, str(problem))
    return Finding(name, OK, f"weights in the installed package {PACKAGE}")


def _on_the_hub(name: str, weights: Weights) -> Finding:
    repository, file, kind = _location(weights.name)
    if isinstance(huggingface_hub.try_to_load_from_cache(repository, file, repo_type=kind), str):
        return Finding(name, OK, "its weights are in the cache")
    token = os.environ.get(TOKEN_VARIABLE, "").strip() or False
    try:
        url = huggingface_hub.hf_hub_url(repository, file, repo_type=kind)
        huggingface_hub.get_hf_file_metadata(url, token=token, timeout=PROBE_SECONDS)
    except Exception as problem:  # the hub's client and its transport raise classes without a common base
        reason, remedy = error_message(problem, repository if kind == "model" else f"datasets/{repository}")
        if weights.pretrained == "required":
            return Finding(name, PROBLEM, f"no weights ({reason}); {remedy}")
        remedy = "connect this machine or fill its cache, or set pretrained: required to stop instead"
        return Finding(name, WARNING, f"random weights would replace the pretrained ones ({reason}); {remedy}")
    return Finding(name, OK, f"can be downloaded from {repository}")


def _location(name: str) -> tuple[str, str, str]:
    """Return repository, file and kind of repository of an encoder's weights."""
    if name.lower() == CTRANSPATH:
        return CTRANSPATH_REPO, CTRANSPATH_FILE, "dataset"
    if known := published(name):
        return known.repository, known.file, "model"
    if ":" in name:
        return name.partition(":")[2], "config.json", "model"
    name = RESNET50 if name.lower() == RESNET50_STAGE3 else name
    config = timm_config(name)
    return (config.hf_hub_id if config and config.hf_hub_id else f"timm/{name}"), "model.safetensors", "model"


def other_tools(external: ExternalPlan) -> Iterator[Finding]:
    """Check that the predictions of other tools are there."""
    for tool in external.settings:
        files = [path for name, path in external.imported.items() if name.partition("/")[0] == tool]
        missing = [path for path in files if not Path(path).is_file()]
        text = f"all {len(files)} files are there"
        if missing:
            text = f"{len(missing)} of {len(files)} files missing, first {missing[0]}: `snakemake tasks` first"
        yield Finding(f"external {tool}", PROBLEM if missing else OK, text)


def slides_to_predict(predict: PredictPlan) -> Iterator[Finding]:
    """Check that slides without counts can be read, and estimate the disk of their patches.

    A slide that is drawn or converted first is not looked into.
    """
    grid = predict.grid if predict.slides else {}
    for slide, one in predict.slides.items():
        name = f"slide {slide}"
        try:
            if not one.path or slide in predict.converted:
                yield Finding(name, OK, "drawn first" if not one.path else "turned into a tiled pyramid first")
                continue
            facts = slide_facts(Path(one.path), one.path, predict.um_per_px_of(slide))
        except InputError as error:
            yield Finding(name, PROBLEM, str(error))
            continue
        area = facts["width"] * facts["height"] * facts["um_per_px"] ** 2
        spots = area / grid_pitch(grid["layout"], grid["pitch_um"]) ** 2
        needed, free = spots * PATCH_BYTES, shutil.disk_usage(_existing(Path(predict.plan.results))).free
        text = f"{facts['um_per_px']:.4g} um/px, from {facts['um_per_px_from']}"
        if not one.spots:
            text += f"; at most {spots:,.0f} spots, {needed / 1e9:.1f} GB of patches ({free / 1e9:.0f} GB free)"
        too_many = needed > free and not one.spots
        remedy = ": make room, or set a larger predict.grid.pitch_um" if too_many else ""
        yield Finding(name, WARNING if too_many else OK, text + remedy)


# --- Machine ----------------------------------------------------------------------------------------------------------


def gpu(device: str) -> Finding:
    """Check that there is the GPU that ``training.device`` asks for."""
    if device == "cpu":
        return Finding("GPU", OK, "none needed (training.device is cpu)")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Finding("GPU", OK, ", ".join(f"{one.name} with {one.total_memory / 1e9:.0f} GB" for one in names))
    if shutil.which("sbatch"):
        return Finding("GPU", WARNING, "none on this machine; the nodes that SLURM gives to trainings need one each")
    if device == "cuda":
        remedy = "run where nvidia-smi shows one, or set training.device to cpu or auto"
        return Finding("GPU", PROBLEM, f"training.device is cuda and torch sees no GPU: {remedy}")
    return Finding("GPU", WARNING, "torch sees none, so all trainings run on the CPU (training.device is auto)")


def disk(plan: Plan, estimate: Estimate) -> Iterator[Finding]:
    """Compare the free disk with what data and results need."""
    needed: dict[Path, float] = {}
    for folder, amount in ((plan.data, estimate.download), (plan.results, estimate.results)):
        here = _existing(Path(folder))
        mount = next((known for known in needed if known.stat().st_dev == here.stat().st_dev), here)
        needed[mount] = needed.get(mount, 0) + amount
    basis = f"{estimate.n_predictions} predictions and {estimate.n_trainings} trained models"
    if estimate.download:
        basis += f", download of {estimate.download / 1e9:.0f} GB"
    for folder, amount in needed.items():
        free = shutil.disk_usage(folder).free
        status = PROBLEM if free < amount else WARNING if free < 1.5 * amount else OK
        remedy = "" if status == OK else "; make room, or put results and data.root on a larger disk"
        text = f"about {amount / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free ({basis}, {estimate.assumed}){remedy}"
        yield Finding("disk", status, text)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def memory(estimate: Estimate) -> Finding:
    """Compare the free memory with the job that is expected to need most."""
    free = free_host()
    status = OK if free.bytes > estimate.memory else WARNING
    remedy = "" if status == OK else "; run fewer jobs at once, or compare fewer methods in a run"
    needed = f"largest job about {estimate.memory / 1e9:.1f} GB (drawing all methods on a slide, {estimate.assumed})"
    return Finding("memory", status, f"{needed}, {free.bytes / 1e9:.1f} GB free of {free.of}{remedy}")


def hours(plan: Plan, estimate: Estimate) -> Finding:
    """Estimate the time of all trainings, from those of this run that are finished if there are any."""
    times = [
        benchmark_seconds(f"{plan.results}/benchmarks/{name}") for name in plan.timed_models if name[:5] == "train"
    ]
    taken = [seconds for seconds in times if seconds == seconds]
    left = estimate.n_trainings - len(taken)
    if taken:
        total = left * mean(taken) / 3600
        return Finding(
            "hours", OK, f"about {_time(total)} for {left} trainings, by the mean of {len(taken)} of this run"
        )
    share = estimate.work / PAPER_WORK
    if plan.config["training"]["device"] == "cpu":
        said = f"{_time(CPU_FACTOR * HOURS['A5000'] * share)} on two CPU cores"
    else:
        said = ", ".join(f"{_number(total * share)} on one {name}" for name, total in HOURS.items()) + " (GPU-hours)"
    basis = f"{left} trainings; counted operations of the paper's, scaled by weights, epochs and slides"
    return Finding("hours", OK, f"in the order of {said} ({basis}, throughput assumed)")


def _time(hours: float) -> str:
    return f"{_number(hours)} h" if hours >= 1 else f"{_number(60 * hours)} min"


# --- Estimate ---------------------------------------------------------------------------------------------------------


class Estimate:
    """Bytes and work of a run.

    Attributes
    ----------
    n_trainings, n_predictions
        Jobs that train a network, and predicted slides.
    download, results, memory
        Bytes that are still to come, and of the largest job.
    work
        Sum over trainings of weights (GB) x epochs x slides, those of `SPOTS` spots.
    assumed
        The assumption on spots, in words.
    """

    def __init__(self, plan: Plan, structure: StructurePlan):
        self.plan = plan
        self.spots = mean(map(self._spots, plan.samples))
        self.assumed = f"{self.spots:.0f} spots a slide"
        missing = [sample for sample in plan.downloaded(plan.samples) if not Path(sample).exists()]
        self.download = len(missing) * SAMPLE_BYTES[plan.has_patches(plan.samples[0])] if missing else 0.0
        weights = {name: _weights(plan, name) for name in plan.methods_of_kind("retrieval", "regression", "clustering")}
        epochs = {
            name: {**plan.config["training"], **plan.config["methods"][name]["training"]}["epochs"] for name in weights
        }
        trained = [(method, fold) for method, fold in self._trainings() if method in weights]
        joint = [training.split("/")[2] for training in structure.trainings] if structure.slides else []
        self.n_trainings = len(trained) + len(joint)
        slides = {fold: len(fold.train) for _, fold in trained}
        self.work = sum(weights[method] / 1e9 * epochs[method] * slides[fold] for method, fold in trained)
        self.work += sum(weights[method] / 1e9 * epochs[method] for method in joint)
        self.work *= self.spots / SPOTS
        self.n_predictions = sum(
            len(fold.test) * len(plan.seeds_of(predictor.method))
            for predictor in plan.predictors.values()
            for section, folds in plan.folds.items()
            if plan.method_of(predictor.name) in plan.methods_in(*section)
            for fold in folds
        )
        cut = (
            0
            if not plan.has_images or plan.has_patches(plan.samples[0])
            else len(plan.samples) * self.spots * PATCH_BYTES
        )
        kept = sum(weights[method] for method, _ in trained) + sum(weights[method] for method in joint)
        total = kept + cut + self.n_predictions * self.spots * PREDICTION_BYTES
        self.results = max(total - _size(Path(plan.results)), 0.0)
        drawn = max(len(plan.drawn_predictors), 1)
        self.memory = DRAWING_BYTES + drawn * max(map(self._spots, plan.samples)) * DRAWING_BYTES_PER_SPOT

    def _trainings(self) -> Iterator[tuple[str, object]]:
        for method in self.plan.methods:
            if method in self.plan.config["methods"]:
                for folds in self.plan.folds.values():
                    yield from ((method, fold) for fold in folds for _ in self.plan.seeds_of(method))

    def _spots(self, sample: str) -> int:
        """Return the number of spots of a sample, `SPOTS` while its counts are not there."""
        if self.plan.config["data"]["source"] == "generated":
            return self.plan.config["data"]["generated"]["spots_across"] ** 2
        try:
            with h5py.File(hest.sample_files(self.plan.data, sample).counts) as file:
                obs = file["obs"]
                return len(obs) if isinstance(obs, h5py.Dataset) else len(obs[obs.attrs["_index"]])
        except (OSError, KeyError, TypeError):
            return SPOTS


def _weights(plan: Plan, method: str) -> float:
    """Return the bytes of a method's weights, from its network without memory for them."""
    entry = plan.config["methods"][method]
    features = FEATURES if registry.REGISTRY[entry["model"]].uses_encoder else 0
    options = registry.without_pretraining(entry["model"], entry["options"])
    with torch.device("meta"):
        network = registry.build(
            entry["model"], Sizes(GENES, positions=100, features=features, training=SPOTS), options
        )
    return float(sum(tensor.numel() * tensor.element_size() for tensor in network.parameters()))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
