"""Predictions of trained regression methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from spotwise.constants import TEST
from spotwise.data.folds import Fold
from spotwise.inference.trained_models import load_model
from spotwise.runtime import devices
from spotwise.training.dataset import Spots

AT_ONCE = 64  # spots per forward pass


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def predict_slides(
    model: Path,
    fold: Fold,
    patches: Mapping[str, Path],
    embeddings: Mapping[str, Path],
    device: str,
    threads: int,
) -> dict[str, np.ndarray]:
    """Predict expression (N, G) float32 of test slides by sample, without reading what was measured.

    ``model`` is the folder of a regression method that was trained on ``fold``. ``patches`` are files of the test
    slides by sample, and ``embeddings`` those of the fold's slides, for methods that use the features of a frozen
    encoder.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    loaded = load_model(model, on)
    loaded.check_encoder(embeddings)
    predictions = {}
    for sample, path in patches.items():
        spots = Spots(
            fold,
            fold.rows(TEST, sample=sample),
            {sample: path},
            on,
            context=loaded.method.options.context,
            observed=False,
            exemplar_rows=fold.bank,
            embeddings=embeddings,
            scratch=model,
        )
        predicted = np.full((len(spots), len(fold.genes)), np.nan, dtype=np.float32)
        with torch.inference_mode():
            for index in spots.fixed_batches(AT_ONCE):
                predicted[index.numpy()] = loaded.method.predict(spots.batch(index)).float().cpu().numpy()
        predictions[sample] = predicted
        del spots  # frees the patches before those of the next slide are read
    return predictions
