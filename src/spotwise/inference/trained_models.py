"""Trained models, loaded from the folders that training writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from spotwise.data.features import pretrained
from spotwise.errors import SetupError
from spotwise.models.description import WEIGHTS, ModelDescription, read_description, weights_fault
from spotwise.models.registry import WeightsError, load, options, restore

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and its description.

    ``method`` is the network in evaluation mode, or for a frozen method the object that predicts from ``weights``,
    which are arrays by name. A network holds its own.
    """

    description: ModelDescription
    method: object
    weights: Mapping[str, np.ndarray] | None = None

    def check_encoder(self, embeddings: Mapping[str, Path]) -> None:
        """Raise `SetupError` if a slide's features, by sample, come from other encoder weights than in training."""
        for sample, path in embeddings.items():
            if pretrained({sample: path}) != self.description.pretrained:
                raise SetupError(
                    f"{path}: embedded with other encoder weights than the training slides; remove it, rerun"
                )


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> TrainedModel:
    """Load a trained model of any kind from its folder, without a download.

    The folder holds ``model.json`` and ``weights.safetensors``. A network is put on ``device``.

    Raises
    ------
    InputError
        The folder holds no trained model, or its files are damaged or do not belong together.

    Examples
    --------
    Embed patches with a retrieval method, and predict expression with a regression method:

    >>> import spotwise, torch
    >>> from spotwise.models.batch import Batch
    >>> from spotwise.models.images import normalise, resize
    >>> model = spotwise.load_model("results/demo/models/demo/patient/CMRCNet/fold0/seed0")
    >>> model.description.kind, len(model.description.genes)
    ('retrieval', 172)
    >>> images = normalise(torch.from_numpy(resize(patches, model.description.patch_px)))  # patches: (B, H, W, 3) uint8
    >>> model.method.embed_images(images)  # (B, D)
    >>> regression = spotwise.load_model("results/demo/models/demo/patient/STNet/fold0/seed0", device="cuda")
    >>> regression.method.predict(Batch(images.cuda(), None))  # (B, G)
    """
    folder = Path(folder)
    description, path = read_description(folder), folder / WEIGHTS
    if not path.is_file():
        raise weights_fault(path, "none")
    try:
        if description.kind == "frozen":
            method = load(description.method)(options(description.method, description.options))
            weights = load_file(path)
        else:
            method = restore(description.method, description.sizes, description.options, path)
    except SafetensorError:
        raise weights_fault(path, "a damaged file") from None
    except WeightsError:
        raise weights_fault(path, "weights of another method or panel") from None
    if description.kind != "frozen":
        return TrainedModel(description, method.to(device))
    if sorted(weights) != sorted(method.weight_names):
        raise weights_fault(path, f"the arrays {', '.join(sorted(weights)) or 'none'}")
    return TrainedModel(description, method, weights)
