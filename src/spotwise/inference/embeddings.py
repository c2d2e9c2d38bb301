"""Embeddings of a fold's spots by a trained method, and of a slide's patches by a frozen encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

from spotwise.constants import BARCODES, IMAGES, SLIDE_CENTRED, TEST
from spotwise.data.centring import centred
from spotwise.data.folds import Fold
from spotwise.data.patch_files import read_patches_index
from spotwise.errors import InputError, SetupError
from spotwise.inference.retrieval import Embeddings
from spotwise.inference.trained_models import load_model
from spotwise.models.encoders import frozen_encoder
from spotwise.models.images import normalise, resize
from spotwise.models.pretrained_weights import weights_hash
from spotwise.runtime import devices, hdf5
from spotwise.training.dataset import Spots

logger = logging.getLogger(__name__)

AT_ONCE = 128  # spots per forward pass


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def embed_fold(
    model: Path, fold: Fold, patches: Mapping[str, Path], device: str, threads: int
) -> tuple[Embeddings, Embeddings]:
    """Embed the expression of all training spots and the patches of all test spots of a fold.

    ``model`` is the folder of a retrieval method that was trained on ``fold``, and ``patches`` are files of the test
    slides by sample.

    Returns
    -------
    bank, queries
        Embeddings of training expression and of test patches, with their rows in ``fold``; centred on each slide where
        the model's description asks for that.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    loaded = load_model(model, on)
    network = loaded.method
    expression = torch.from_numpy(fold.expression[fold.bank])
    tested = fold.rows(TEST)
    spots = Spots(fold, tested, patches, on, context=network.options.context, observed=False, scratch=model)
    bank = in_batches(len(fold.bank), lambda index: network.embed_expression(expression[index].to(on)))
    queries = in_batches(len(tested), lambda index: network.embed_images(spots.batch(index).images))
    if loaded.description.features == SLIDE_CENTRED:
        bank, queries = centred(bank, fold.sample[fold.bank]), centred(queries, fold.sample[tested])
    return Embeddings.of(bank, fold.bank), Embeddings.of(queries, tested)


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def embed_patches(
    patches: Path, encoder: str, pretrained: str, device: str, threads: int, output: Path, checkpoint: str = ""
) -> None:
    """Embed the patches of a slide with a frozen encoder.

    Patches are resized where the encoder requires another size. Without weights the encoder is random, from seed 0. The
    HDF5 file holds ``embedding`` (N, D) float32 and ``barcode``, row by row as in ``patches``, and the attributes
    ``encoder``, ``pretrained``, ``fell_back`` (to random weights where others were asked for) and ``weights``, the hash
    of the weights.
    """
    barcodes, _, _ = read_patches_index(patches)  # refuses a malformed file before the encoder is downloaded
    on = devices.choose(device)
    devices.make_deterministic(threads)
    torch.manual_seed(0)
    model, loaded = frozen_encoder(encoder, pretrained, checkpoint)
    model = model.eval().to(on)
    expects = model.pretrained_cfg
    px = expects["input_size"][-1] if expects.get("fixed_input_size") else None
    with h5py.File(patches) as file:
        images = file[IMAGES]

        def features(index: torch.Tensor) -> torch.Tensor:
            block = images[int(index[0]) : int(index[-1]) + 1]
            block = torch.from_numpy(block if px is None else resize(block, px))
            found = model(normalise(block.to(on), expects["mean"], expects["std"]))
            if found.ndim != 2:
                raise InputError("encoder", encoder, f"features {tuple(found.shape)}", "an encoder that pools its own")
            return found

        embedding = in_batches(len(images), features)
    if not np.isfinite(embedding).all():
        raise SetupError(f"{encoder}: features are not finite; use pretrained weights, or another encoder")
    with hdf5.create(output) as file:
        file["embedding"] = embedding
        file.create_dataset(BARCODES, data=barcodes.astype(object), dtype=h5py.string_dtype())
        file.attrs.update(encoder=encoder, pretrained=loaded, fell_back=not loaded and pretrained != "no")
        file.attrs["weights"] = weights_hash(model)


@torch.inference_mode()
def in_batches(n: int, embed: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Apply ``embed`` to ``n`` consecutive rows in batches, and return (n, D) float32."""
    parts = [embed(index).float().cpu() for index in torch.arange(n).split(AT_ONCE)]
    return torch.cat(parts).numpy()
