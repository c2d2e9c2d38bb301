"""Benchmark of training steps: the training loop against one fixed batch and against a DataLoader."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import Machine
from benchmarks.table import AtLeast, AtMost, Limit, Row
from benchmarks.timing import ROOT, Ratio, in_turns
from spotwise.config import read_config
from spotwise.constants import IMAGES, TRAIN
from spotwise.data.folds import Fold
from spotwise.models.batch import Batch
from spotwise.models.images import IMAGENET_MEAN, IMAGENET_STD
from spotwise.models.sizes import Sizes
from spotwise.runtime import devices
from spotwise.training.dataset import Spots
from spotwise.training.loop import Run
from spotwise.training.training_options import TrainingOptions

PX, SLIDE = 224, "S"
REPEATS = 3
THREADS = 1  # of a training on a CPU, as in the demo
PRODUCT_EDGE = {"cpu": 2048, "cuda": 8192}
TRIES = 5
DEMO = read_config(ROOT / "configs" / "demo.yaml")


@dataclass(frozen=True)
class Case:
    """A model and the size of its measurement.

    Attributes
    ----------
    name
        For the table.
    method, options
        Registered class and its options.
    batch, steps, genes
        Spots of a batch, batches of an epoch, genes of the panel.
    """

    name: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)
    batch: int = 64
    steps: int = 60
    genes: int = 1000


RESNET50 = {"encoder": "resnet50", "pretrained": "no"}
# A core steps on one to a few spots a second with the larger encoders: batches of 64 would take most of an hour
ON_CPU = (
    Case(
        "the demo's CMRCNet",
        "CMRCNet",
        DEMO["methods"]["CMRCNet"]["options"],
        batch=DEMO["training"]["batch_size"],
        steps=16,
        genes=200,
    ),
    Case("ViT-S/32", "BLEEP", {"encoder": "vit_small_patch32_224", "pretrained": "no"}, 16, 2),
    Case("ResNet50", "BLEEP", RESNET50, 8, 1),
)
# as published
ON_GPU = (
    Case("CMRCNet, ViT-B/32 of 8 blocks", "CMRCNet"),
    Case("ResNet50", "BLEEP", RESNET50),
    Case("DenseNet-121", "STNet", {"pretrained": "no"}),
)


def made_up_fold(spots: int, genes: int) -> Fold:
    """Draw training spots of one slide with random expression."""
    rng = np.random.default_rng(0)
    return Fold(
        genes=np.array([f"G{gene}" for gene in range(genes)], dtype=object),
        is_hvg=np.ones(genes, dtype=bool),
        is_marker=np.zeros(genes, dtype=bool),
        expression=rng.gamma(1.0, size=(spots, genes)).astype(np.float32),
        sample=np.full(spots, SLIDE, dtype=object),
        patient=np.full(spots, "P", dtype=object),
        barcode=np.arange(spots).astype(str).astype(object),
        role=np.full(spots, TRAIN, dtype=object),
        patch=np.arange(spots)[::-1].copy(),
        spatial=rng.uniform(size=(spots, 2)),
        array=np.stack(np.divmod(np.arange(spots), 64), axis=1),
        total_counts=np.ones(spots, dtype=np.float32),
        cohort="c",
        protocol="paper",
        fold=0,
    )


def write_patches(path: Path, spots: int) -> None:
    """Write patches of noise in HEST's schema, one per chunk."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        images = file.create_dataset(IMAGES, (spots, PX, PX, 3), np.uint8, chunks=(1, PX, PX, 3))
        for spot in range(spots):
            images[spot] = rng.integers(0, 256, (PX, PX, 3), dtype=np.uint8)


class PatchByPatch(Dataset):
    """Training spots loaded image by image, as the published code of BLEEP and related methods does.

    Each image is read from the file, flipped at random, rotated by a multiple of 90 degrees and normalised.

    Parameters
    ----------
    patches
        ``patches.h5``.
    fold
        Source of the training spots.
    augmented
        Whether images are flipped and rotated.
    """

    def __init__(self, patches: Path, fold: Fold, augmented: bool = True):
        self.patches, self.fold, self.augmented = patches, fold, augmented
        self.rows = fold.rows(TRAIN)
        self.file: h5py.File | None = None  # opened by each worker for itself

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the image (3, H, W) of a spot and its expression (G,), float32."""
        self.file = self.file or h5py.File(self.patches)
        row = self.rows[number]
        image = Image.fromarray(self.file[IMAGES][self.fold.patch[row]])
        if self.augmented:
            for flip in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
                image = image.transpose(flip) if random.random() < 0.5 else image
            image = image.rotate(random.choice([180, 90, 0, -90]))
        scaled = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
        return (scaled - mean) / std, torch.from_numpy(self.fold.expression[row])


class Training:
    """One model with its spots, ready for each kind of step that is compared."""

    def __init__(self, case: Case, folder: Path, device: torch.device, threads: int):
        devices.make_deterministic(threads)
        n = case.batch * case.steps
        self.patches = folder / "patches.h5"
        write_patches(self.patches, n)
        self.fold = made_up_fold(n, case.genes)
        options = TrainingOptions(device=device.type, batch_size=case.batch, threads=threads)
        self.run = Run(Sizes.of(self.fold), case.method, case.options, options, 0, device, fresh=True)
        context = self.run.model.options.context
        self.spots = Spots(self.fold, self.fold.rows(TRAIN), {SLIDE: self.patches}, device, context=context)
        self.batch = self.spots.batch(torch.arange(case.batch))
        self.steps, self.device = case.steps, device
        self.waited: list[float] = []

    def epoch(self) -> dict[str, float]:
        """Train an epoch with the package's own loop and return its summary."""
        self.run.step, self.run.batches, self.run.sums = 0, None, {}
        summary = self.run._train_epoch(self.spots, state=None)
        self.waited.append(summary["wait_share"])
        return summary

    def fixed(self) -> float:
        """Take as many steps on one fixed batch and return the last loss."""
        self.run.model.train()
        for _ in range(self.steps):
            loss = self.step(self.batch)
        return loss.item()  # waits for the device

    def loader(self, workers: int) -> DataLoader:
        """Make a loader of batches, image by image, with worker processes if requested."""
        return DataLoader(
            PatchByPatch(self.patches, self.fold),
            self.run.options.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def loaded(self, loader: DataLoader) -> float:
        """Take an epoch of steps on a loader's batches and return the last loss."""
        self.run.model.train()
        for images, expression in loader:
            batch = Batch(images.to(self.device, non_blocking=True), expression.to(self.device, non_blocking=True))
            loss = self.step(batch)
        return loss.item()

    def step(self, batch: Batch) -> torch.Tensor:
        """Take one step of the optimiser."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.bf16):
            loss = self.run.model.loss(batch)["total"]
        self.run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.run.optimiser.step()
        return loss.detach()


def product_rate(device: torch.device, bf16: bool) -> float:
    """Measure operations per second of a large matrix product in the precision of training."""
    n = PRODUCT_EDGE[device.type]
    a = torch.ones(n, n, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    seconds = []
    for _ in range(TRIES):
        _finish(device)
        before = time.perf_counter()
        torch.mm(a, a)
        _finish(device)
        seconds.append(time.perf_counter() - before)
    return 2 * n**3 / min(seconds)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rows(machine: Machine) -> list[Row]:
    """Measure each model against its fixed batch and against the loader, on a GPU if there is one."""
    device = devices.choose("auto")
    found = []
    for case in ON_CPU if device.type == "cpu" else ON_GPU:
        with tempfile.TemporaryDirectory() as folder:
            found += rows_of_case(case, Path(folder), device, machine.cores)
    return found


def rows_of_case(case: Case, folder: Path, device: torch.device, cores: int) -> list[Row]:
    """Measure one model."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training = Training(case, folder, device, THREADS)
    # on a CPU a job has one core, with which it loads, too
    workers = 0 if device.type == "cpu" else max(1, cores - 1)
    loader = training.loader(workers)
    with FlopCounterMode(display=False) as counted:
        training.step(training.batch)
    times = in_turns(
        {"product": training.epoch, "fixed": training.fixed, "loader": lambda: training.loaded(loader)}, REPEATS
    )
    n, ours = case.batch * case.steps, times["product"].median
    waited = training.waited[-REPEATS:]
    flops = case.steps * counted.get_total_flops()
    work = f"training {case.name} on {devices.name(device)}, batches of {case.batch}"
    memory = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device.type == "cuda" else ""
    return [
        Row(
            work,
            "throughput / that of one fixed batch in memory",
            Ratio.of(times["fixed"], times["product"]),
            AtLeast(0.95),
            Limit(
                f"{flops / 1e9:.0f} Gflop at the rate of a matrix product",
                flops / product_rate(device, training.run.bf16),
                ours,
            ),
            note=f"{n / ours:.3g} spots/s{memory}",
        ),
        Row(
            work,
            "share of the time that the loop waits for its batch",
            Ratio(median(waited), min(waited), max(waited)),
            AtMost(0.02),
            note=f"{1000 * median(waited) * ours / n:.2f} ms a spot: gather, turn and normalise 224 x 224 pixels",
        ),
        Row(
            work,
            "throughput / with a DataLoader, image by image",
            Ratio.of(times["loader"], times["product"]),
            note=f"{workers} worker processes, whose CPU time is not counted" if workers else "in the same process",
        ),
    ]
