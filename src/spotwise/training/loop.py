"""The training loop for one method, fold, seed and device.

The loop knows a method only by ``loss(batch)`` and ``validate(batches)``. It can be killed at any moment. Started again
with the same parameters, it resumes from its last saved state and ends with the same bits as without the interruption.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_model
from tqdm import tqdm

from spotwise.constants import TRAIN, VAL
from spotwise.data.features import encoder_name, fell_back, pretrained
from spotwise.data.folds import content_hash, read_fold
from spotwise.models import registry
from spotwise.models.batch import Batch
from spotwise.models.description import WEIGHTS, describe, write_description
from spotwise.models.images import IMAGENET_MEAN, IMAGENET_STD
from spotwise.models.sizes import Sizes
from spotwise.runtime import devices
from spotwise.runtime.files import atomic, write_json, write_text
from spotwise.runtime.software import versions
from spotwise.training.checkpoints import State, hash_file, hash_tensors, identity, locked
from spotwise.training.collapse import check_collapse
from spotwise.training.dataset import Spots
from spotwise.training.training_options import TrainingOptions

logger = logging.getLogger(__name__)

# Columns of history.tsv that differ between runs
TIMINGS = ("spots_per_s", "wait_share", "seconds")
# Attributes of a run that a resumed one continues with
PROGRESS = ["epoch", "step", "batches", "history", "best", "best_loss", "best_epoch", "pretrained_loaded", "attempt"]


@devices.explain_out_of_memory(
    "set training.memory to host or map, which keeps patches off the GPU, or lower training.batch_size, which changes "
    "a contrastive loss; gradients are not accumulated over parts of a batch, as that changes it too"
)
def train(
    fold_path: Path,
    patches: Mapping[str, Path],
    method: str,
    method_options: Mapping[str, object],
    options: TrainingOptions,
    seed: int,
    code: str,
    state_root: Path,
    model: Path,
    embeddings: Mapping[str, Path] | None = None,
    preparation: Mapping[str, object] | None = None,
) -> None:
    """Train a method on a fold and keep the epoch with the lowest validation loss.

    Parameters
    ----------
    fold_path, patches, embeddings
        ``fold.h5``, ``patches.h5`` by sample, and embedded patches for methods that use features of a frozen encoder.
    method, method_options
        Registered class and its options.
    seed
        Seed of initialisation, order, augmentation, dropout and masks.
    code
        Hash of the code that decides the result, part of the state's identity.
    state_root
        Folder of the resumable state, removed at the end of the training.
    model
        Output folder for ``weights.safetensors``, ``model.json`` (see :mod:`spotwise.models.description`),
        ``history.tsv`` (a row per epoch) and ``summary.json`` (how the training went).
    preparation
        How the expression of the fold was prepared, and how embeddings are to be, for ``model.json``.

    Raises
    ------
    SetupError
        No required GPU, another process trains the same, or slides embedded with and without pretrained weights.
    CollapseError
        The loss is not finite, a contrastive loss stays at ln(batch), or all embeddings become equal.
    """
    started = time.monotonic()
    with locked(state_root):
        device = devices.choose(options.device)
        devices.make_deterministic(options.threads)
        fold = read_fold(fold_path)
        features_pretrained = pretrained(embeddings) if embeddings else None
        context = registry.options(method, method_options).context
        training, validation = (
            Spots(
                fold,
                fold.rows(role),
                patches,
                device,
                options.memory,
                context,
                exemplar_rows=fold.rows(TRAIN),
                embeddings=embeddings,
                scratch=model,
            )
            for role in (TRAIN, VAL)
        )
        state = State(
            state_root,
            identity(
                fold=content_hash(fold),
                patches=hash_tensors(*training.contents(), *validation.contents()),
                method=method,
                method_options=dict(method_options),
                checkpoint=hash_file(method_options.get("checkpoint")),
                options=options.decisive,
                seed=seed,
                code=code,
                device=devices.name(device),
                versions=versions("torch", "timm", "numpy", "scipy"),
            ),
        )
        sizes = Sizes.of(fold, embeddings)
        saved = state.load()
        run = Run(sizes, method, method_options, options, seed, device, fresh=saved is None)
        if saved is None:
            run.model.begin(training.expression)
        else:
            run.resume(saved)
        run.fit(training, validation, state)

        encoder = encoder_name(embeddings) if embeddings else run.model.encoder_name
        loaded = features_pretrained if embeddings else run.pretrained_loaded
        images = {"patch_px": training.images.shape[1], "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
        facts = {
            "fell_back": fell_back(embeddings) if embeddings else False,
            "seed": seed,
            **images,
            **(preparation or {}),
        }
        run.publish_best(model / WEIGHTS)
        write_description(model, describe(method, method_options, fold, sizes, encoder, loaded, **facts))
        write_text(model / "history.tsv", _as_tsv(run.history))
        write_json(
            model / "summary.json",
            {
                "method": method,
                "method_options": dict(method_options),
                "options": options.model_dump(),
                "seed": seed,
                "cohort": fold.cohort,
                "protocol": fold.protocol,
                "fold": fold.fold,
                "spots": {"train": len(training), "val": len(validation)},
                "genes": len(fold.genes),
                "parameters": sum(p.numel() for p in run.model.parameters()),
                "best_epoch": run.best_epoch,
                "best_val_loss": run.best_loss,
                "pretrained_loaded": loaded,
                "started_times": run.attempt,
                "device": devices.name(device),
                "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
                "seconds": round(time.monotonic() - started, 1),
                "versions": versions("torch", "timm", "numpy"),
            },
        )
        state.discard()


class Run:
    """A training in progress, with model, optimiser, random generators, history and position within an epoch."""

    def __init__(
        self,
        sizes: Sizes,
        method: str,
        method_options: Mapping[str, object],
        options: TrainingOptions,
        seed: int,
        device: torch.device,
        fresh: bool,
    ):
        torch.manual_seed(seed)
        self.options = options
        self.device = device
        # A resumed model takes its weights from the state and needs no published ones
        given = method_options if fresh else registry.without_pretraining(method, method_options)
        self.model = registry.build(method, sizes, given).to(device)
        self.pretrained_loaded = self.model.pretrained_loaded
        self.optimiser = _optimiser(self.model, options, device)
        self.rates = learning_rates(options)
        self.bf16 = (
            options.precision == "bf16"
            and device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        # Of order and augmentation; dropout and masks use the global generator
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch, self.step = 1, 0
        self.batches: list[torch.Tensor] | None = None  # of this epoch
        self.sums: dict[str, torch.Tensor] = {}  # of this epoch's loss terms, on the device
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] | None = None  # weights of the best epoch, in main memory
        self.best_loss, self.best_epoch = math.inf, 0
        self.attempt = 1
        self.stopping = False
        self.saved = time.monotonic()

    def fit(self, training: Spots, validation: Spots, state: State) -> None:
        """Train until the last epoch, saving every few minutes and on SIGTERM."""
        self.saved = time.monotonic()
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            epochs = range(self.epoch, self.options.epochs + 1)
            for _ in tqdm(epochs, desc="epochs", initial=self.epoch - 1, total=self.options.epochs, disable=None):
                row = {"epoch": self.epoch, "lr": self.rates[self.epoch - 1]}
                row |= self._train_epoch(training, state)
                row |= self._validate(validation)
                self.history.append(row)
                logger.info("%s", "  ".join(f"{name} {value:.5g}" for name, value in row.items()))
                check_collapse(self.history, min(self.options.batch_size, len(training)))
                if row["val_total"] < self.best_loss:
                    self.best_loss, self.best_epoch = row["val_total"], self.epoch
                    self.best = _copy_to_host(self.model.state_dict())
                self.epoch, self.step, self.batches, self.sums = self.epoch + 1, 0, None, {}
                self._save_if_due(state)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _train_epoch(self, spots: Spots, state: State) -> dict[str, float]:
        """Train on the remaining batches of this epoch, and return the means of the loss terms and the speed."""
        if self.batches is None:
            self.batches = spots.training_batches(self.options.batch_size, self.generator)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[self.epoch - 1]
        self.model.train()
        first, waited, begun = self.step, 0.0, time.monotonic()
        while self.step < len(self.batches):
            requested = time.monotonic()
            batch = spots.batch(self.batches[self.step], self.generator if self.options.augment else None)
            waited += time.monotonic() - requested
            self._train_step(batch)
            self.step += 1
            self._save_if_due(state)
        steps = len(self.batches)
        means = {f"train_{name}": total.item() / steps for name, total in self.sums.items()}  # waits for the device
        seconds = time.monotonic() - begun
        done = sum(map(len, self.batches[first:]))
        return means | {"spots_per_s": done / seconds, "wait_share": waited / seconds, "seconds": seconds}

    def _train_step(self, batch: Batch) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            terms = self.model.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        if self.options.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        self.optimiser.step()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().double()

    @torch.no_grad()
    def _validate(self, spots: Spots) -> dict[str, float]:
        """Return the method's criteria on the validation spots, with fixed batches and masks."""
        self.model.eval()
        masks = torch.Generator(self.device).manual_seed(0)
        batches = (spots.batch(index) for index in spots.fixed_batches(self.options.batch_size))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            found = self.model.validate(batches, len(spots), masks)
        return {f"val_{name}": value for name, value in found.items()}

    def publish_best(self, weights: Path) -> None:
        """Write the weights of the best epoch, which replace those of the last one."""
        self.model.load_state_dict(self.best)
        with atomic(weights) as temporary:
            save_model(self.model, str(temporary))

    def _save_if_due(self, state: State) -> None:
        """Save after ``save_every_minutes`` without a save, or when asked to stop, which then ends the process."""
        if self.stopping or time.monotonic() - self.saved > 60 * self.options.save_every_minutes:
            self.save(state)
            self.saved = time.monotonic()
        if self.stopping:
            logger.warning("SIGTERM: state saved at epoch %d, step %d", self.epoch, self.step)
            sys.exit(128 + signal.SIGTERM)

    def save(self, state: State) -> None:
        """Save everything that :meth:`resume` needs."""
        state.save(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
                "sums": self.sums,
                **{name: getattr(self, name) for name in PROGRESS},
            }
        )

    def resume(self, saved: dict) -> None:
        """Continue from a saved state."""
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["cuda_rng"], self.device)
        for name in PROGRESS:
            setattr(self, name, saved[name])
        self.sums = {name: value.to(self.device) for name, value in saved["sums"].items()}
        self.attempt += 1
        logger.info("attempt %d: resumed at epoch %d, step %d", self.attempt, self.epoch, self.step)

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True


def learning_rates(options: TrainingOptions) -> list[float]:
    """Return the learning rate of each epoch, a cosine from ``learning_rate`` to ``final_learning_rate``.

    As in the released code, whose scheduler steps before the first epoch: the last epoch has exactly
    ``final_learning_rate``, and the nominal first rate is never used.
    """
    first, last = options.learning_rate, options.final_learning_rate
    return [
        last + (first - last) / 2 * (1 + math.cos(math.pi * epoch / options.epochs))
        for epoch in range(1, options.epochs + 1)
    ]


def _optimiser(model: torch.nn.Module, options: TrainingOptions, device: torch.device) -> torch.optim.Optimizer:
    shared = {"lr": options.learning_rate, "weight_decay": options.weight_decay, "fused": device.type == "cuda"}
    if options.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=options.momentum, **shared)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser](model.parameters(), **shared)


def _copy_to_host(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.to("cpu", copy=True) for name, value in weights.items()}


def _as_tsv(history: list[dict[str, float]]) -> str:
    names = [name for name in history[0] if name not in TIMINGS] + list(TIMINGS)
    lines = ["\t".join(names)]
    lines += ["\t".join(f"{row[name]:.8g}" for name in names) for row in history]
    return "\n".join(lines) + "\n"
