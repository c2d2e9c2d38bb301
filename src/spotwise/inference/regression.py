"""Predictions of trained regression methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from spotwise.constants import TEST
from spotwise.data.features import pretrained
from spotwise.data.folds import Fold
from spotwise.errors import SetupError
from spotwise.models.base import Sizes
from spotwise.models.registry import restore
from spotwise.runtime import devices
from spotwise.training.dataset import Spots

AT_ONCE = 64  # spots per forward pass


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def predict(
    fold: Fold,
    sample: str,
    patches: Path,
    method: str,
    method_options: Mapping[str, object],
    weights: Path,
    trained: Mapping[str, object],
    device: str,
    threads: int,
    embeddings: Mapping[str, Path] | None = None,
) -> np.ndarray:
    """Predicted expression (N, G) float32 of a test slide, whose measured expression is not read.

    Parameters
    ----------
    fold, sample, patches
        The fold, its test slide, and the slide's ``patches.h5``.
    method, method_options, weights, trained
        The trained method, with the summary of its training.
    device, threads
        As in training.
    embeddings
        Embedded patches of the fold's slides by sample, for methods that use the features of a frozen encoder.

    Raises
    ------
    SetupError
        When the frozen encoder had its published weights in training but not for this slide, or the other way round.
    """
    if embeddings and pretrained(embeddings) != trained["pretrained_loaded"]:
        raise SetupError(
            f"{embeddings[sample]}: embedded with other encoder weights than in training; remove it, rerun"
        )
    on = devices.choose(device)
    devices.make_deterministic(threads)
    model = restore(method, Sizes.of(fold, embeddings), method_options, weights).to(on)
    spots = Spots(
        fold,
        fold.rows(TEST, sample=sample),
        {sample: patches},
        on,
        context=model.options.context,
        observed=False,
        exemplar_rows=fold.bank,
        embeddings=embeddings,
        scratch=weights.parent,
    )
    predicted = np.full((len(spots), len(fold.genes)), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for index in spots.fixed_batches(AT_ONCE):
            predicted[index.numpy()] = model.predict(spots.batch(index)).float().cpu().numpy()
    return predicted
