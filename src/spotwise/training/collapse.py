"""Detection of trainings that diverge or collapse."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spotwise.errors import CollapseError

# A contrastive loss of ln(batch) means that all spots look alike. Within this share of it, for so many epochs, the
# training has collapsed (reported for BLEEP and related methods).
COLLAPSE_SHARE, COLLAPSE_EPOCHS = 0.005, 5
# Embeddings are layer-normalised, so that their spread over a batch is of order 1; below this, all are equal
LEAST_SPREAD = 1e-3


def check_collapse(history: Sequence[dict[str, float]], batch_size: int) -> None:
    """Check the last epoch of a training for divergence, and for the collapse of a contrastive method.

    ``history`` holds the loss terms of each epoch by name, ``batch_size`` is that of training.

    Raises
    ------
    CollapseError
        When a loss is not finite, the contrastive loss stayed at ln(batch) for the last epochs, or the embeddings of
        validation spots are all equal.
    """
    last = history[-1]
    for name in ("train_total", "val_total"):
        if not math.isfinite(last[name]):
            raise CollapseError(f"epoch {last['epoch']}: {name} is {last[name]}; try a lower learning_rate")
    for modality in ("image", "gene"):
        spread = last.get(f"val_{modality}_spread", math.inf)
        if not spread >= LEAST_SPREAD:  # NaN included
            raise CollapseError(
                f"epoch {last['epoch']}: {modality} embeddings have collapsed (spread {spread:.2g} over a batch); "
                "try a lower learning_rate or another seed"
            )
    level = math.log(batch_size)
    recent = [row["train_contrastive"] for row in history[-COLLAPSE_EPOCHS:] if "train_contrastive" in row]
    if len(recent) == COLLAPSE_EPOCHS and all(abs(loss - level) < COLLAPSE_SHARE * level for loss in recent):
        raise CollapseError(
            f"epoch {last['epoch']}: the contrastive loss has stayed at ln({batch_size}) = {level:.3f} for "
            f"{COLLAPSE_EPOCHS} epochs: all spots look alike to the model; try another learning_rate or batch_size"
        )
