"""Joint embeddings: image and expression of each spot of a slide, by a trained clustering or retrieval method."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from spotwise.constants import TEST, TRAIN, VAL
from spotwise.data.folds import Fold, read_fold
from spotwise.inference.embeddings import in_batches
from spotwise.inference.retrieval import unit_rows
from spotwise.models.base import Sizes
from spotwise.models.registry import restore
from spotwise.runtime import devices
from spotwise.structure.spaces import Space, write_space
from spotwise.training.dataset import Spots

logger = logging.getLogger(__name__)


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def embed_joint(
    fold_path: Path,
    patches: Path,
    sample: str,
    method: str,
    method_options: Mapping[str, object],
    weights: Path,
    summary: Path,
    device: str,
    threads: int,
    space: str,
    seed: int,
    output: Path,
) -> None:
    """Embed image and measured expression of each spot of one slide: both halves at length 1, side by side.

    Parameters
    ----------
    fold_path, patches, sample
        The fold that holds the slide's spots, their patches, and the slide. A retrieval method is asked about its test
        slide, a clustering method about one it was trained on.
    method, method_options, weights, summary
        The trained method.
    device, threads
        As in training.
    space, seed
        Name of the space and seed of the training, for the file.
    output
        The slide's file of :func:`spotwise.structure.spaces.write_space`.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    fold = read_fold(fold_path)
    model = restore(method, Sizes.of(fold), method_options, weights).to(on)
    rows = fold.rows(TRAIN, VAL, TEST, sample=sample)
    spots = Spots(
        fold, rows, {sample: patches}, on, context=model.options.context, observed=False, scratch=output.parent
    )
    expression = torch.from_numpy(measured(fold, rows))
    halves = [
        unit_rows(in_batches(len(rows), embed))
        for embed in (
            lambda index: model.embed_images(spots.batch(index).images),
            lambda index: model.embed_expression(expression[index].to(on)),
        )
    ]
    write_space(
        output,
        Space(
            embedding=np.concatenate(halves, axis=1),
            barcode=fold.barcode[rows],
            name=space,
            seed=seed,
            halves=(halves[0].shape[1], halves[1].shape[1]),
            pretrained=json.loads(summary.read_text(encoding="utf-8"))["pretrained_loaded"],
        ),
    )


def measured(fold: Fold, rows: np.ndarray) -> np.ndarray:
    """(n, G) float32 expression of spots; where a test slide lacks a gene, the mean of the training spots."""
    expression = fold.expression[rows]
    lacking = np.isnan(expression).any(axis=0)
    if lacking.any():
        logger.warning("%d genes are not measured and stand at their mean in training", lacking.sum())
        expression[:, lacking] = fold.expression[np.ix_(fold.bank, lacking)].mean(axis=0)
    return expression
