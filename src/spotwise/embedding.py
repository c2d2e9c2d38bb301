"""Embeddings: of a fold's spots by a trained method, and of a slide's patches by a frozen encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

from spotwise import devices
from spotwise.contracts import BARCODES, IMAGES, PATCH_PX, TEST
from spotwise.errors import InputError, SetupError
from spotwise.files import atomic
from spotwise.folds import read_fold
from spotwise.models import restore
from spotwise.models.encoders import timm_encoder
from spotwise.retrieval import Embeddings, write_embeddings
from spotwise.spots import Spots, normalise

logger = logging.getLogger(__name__)

AT_ONCE = 128  # spots per forward pass


def build_bank(
    fold_path: Path,
    patches: Mapping[str, Path],
    method: str,
    method_options: Mapping[str, object],
    weights: Path,
    device: str,
    threads: int,
    bank: Path,
    queries: Path,
) -> None:
    """Embed the expression of all training spots and the patches of all test spots of a fold.

    Parameters
    ----------
    fold_path, patches
        ``fold.h5``, and ``patches.h5`` of the test slides by sample.
    method, method_options, weights
        The trained method.
    device, threads
        As in training.
    bank, queries
        Outputs: embeddings of training expression and of test patches, each with its rows in ``fold.h5``.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    fold = read_fold(fold_path)
    model = restore(method, len(fold.genes), method_options, weights).to(on)
    expression = torch.from_numpy(fold.expression[fold.bank])
    tested = fold.rows(TEST)
    spots = Spots(fold, tested, patches, on)
    for path, row, embed in (
        (bank, fold.bank, lambda index: model.embed_expression(expression[index].to(on))),
        (queries, tested, lambda index: model.embed_images(spots.batch(index).images)),
    ):
        write_embeddings(path, Embeddings.of(_in_batches(len(row), embed), row))


def embed_patches(patches: Path, encoder: str, pretrained: str, device: str, threads: int, output: Path) -> None:
    """Features of a slide's patches by a frozen timm encoder.

    Parameters
    ----------
    patches
        ``patches.h5``.
    encoder
        Name of a timm model; its pooled features are taken.
    pretrained
        ``no``, ``when_reachable`` or ``required``. Without weights the encoder is random, from seed 0.
    device, threads
        As in training.
    output
        HDF5: ``embedding`` (N, D) float32 and ``barcode``, row by row as in ``patches``; attributes ``encoder`` and
        ``pretrained``.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    torch.manual_seed(0)
    model, loaded = timm_encoder(encoder, pretrained)
    model = model.eval().to(on)
    expects = model.pretrained_cfg
    if expects.get("fixed_input_size") and expects["input_size"][-1] != PATCH_PX:
        raise InputError(
            "encoder", encoder, f"{expects['input_size'][-1]} px images only", f"one that takes {PATCH_PX} px"
        )
    mean, std = expects["mean"], expects["std"]
    with h5py.File(patches) as file:
        images = file[IMAGES]

        def features(index: torch.Tensor) -> torch.Tensor:
            block = torch.from_numpy(images[int(index[0]) : int(index[-1]) + 1])
            return model(normalise(block.to(on), mean, std))

        embedding = _in_batches(len(images), features)
        barcodes = file[BARCODES][:]
    if not np.isfinite(embedding).all():
        raise SetupError(f"{encoder}: features that are no numbers; an encoder with random weights may need another")
    with atomic(output) as temporary, h5py.File(temporary, "w") as file:
        file["embedding"] = embedding
        file.create_dataset(BARCODES, data=barcodes, dtype=h5py.string_dtype())
        file.attrs.update(encoder=encoder, pretrained=loaded)


@torch.inference_mode()
def _in_batches(n: int, embed: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """(n, D) float32 of ``embed`` over consecutive rows."""
    parts = [embed(index).float().cpu() for index in torch.arange(n).split(AT_ONCE)]
    return torch.cat(parts).numpy()
