"""Joint embeddings of image and expression, by a trained clustering or retrieval method."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from spotwise.constants import TEST, TRAIN, VAL
from spotwise.data.folds import Fold, read_fold
from spotwise.inference.embeddings import in_batches
from spotwise.inference.trained_models import load_model
from spotwise.models.similarity_search import unit_rows
from spotwise.runtime import devices
from spotwise.structure.spaces import Space, write_space
from spotwise.training.dataset import Spots

logger = logging.getLogger(__name__)


@devices.explain_out_of_memory(devices.FREE_GPU_MEMORY)
def embed_joint(
    model: Path, fold: Path, patches: Path, sample: str, device: str, threads: int, space: str, output: Path
) -> None:
    """Embed image and measured expression of each spot of one slide, both halves at length 1, side by side.

    Parameters
    ----------
    model
        Folder of a trained clustering or retrieval method.
    fold, patches, sample
        The fold that holds the slide's spots, their patches, and the slide: of a retrieval method its test slide, of a
        clustering method one that it was trained on.
    device, threads
        As in training.
    space
        Name of the space.
    output
        File of the slide, see :func:`spotwise.structure.spaces.write_space`.
    """
    on = devices.choose(device)
    devices.make_deterministic(threads)
    content = read_fold(fold)
    loaded = load_model(model, on)
    loaded.description.check_panel(content, fold)
    network = loaded.method
    rows = content.rows(TRAIN, VAL, TEST, sample=sample)
    spots = Spots(
        content, rows, {sample: patches}, on, context=network.options.context, observed=False, scratch=output.parent
    )
    expression = torch.from_numpy(measured(content, rows))
    halves = [
        unit_rows(in_batches(len(rows), embed))
        for embed in (
            lambda index: network.embed_images(spots.batch(index).images),
            lambda index: network.embed_expression(expression[index].to(on)),
        )
    ]
    write_space(
        output,
        Space(
            embedding=np.concatenate(halves, axis=1),
            barcode=content.barcode[rows],
            name=space,
            seed=loaded.description.seed,
            halves=(halves[0].shape[1], halves[1].shape[1]),
            pretrained=loaded.description.pretrained,
            fell_back=loaded.description.fell_back,
            encoder=loaded.description.encoder,
        ),
    )


def measured(fold: Fold, rows: np.ndarray) -> np.ndarray:
    """Return the expression (n, G) float32 of spots, with the training mean for genes that a test slide lacks."""
    expression = fold.expression[rows]
    lacking = np.isnan(expression).any(axis=0)
    if lacking.any():
        logger.warning("%d genes are not measured and set to their training mean", lacking.sum())
        expression[:, lacking] = fold.expression[np.ix_(fold.bank, lacking)].mean(axis=0)
    return expression
