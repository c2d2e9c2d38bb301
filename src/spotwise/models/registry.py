"""The registry of methods.

A method takes two files here, its network and its options, a line in ``REGISTRY`` and an entry in the configuration.
Importing this module imports no method, and options are checked without torch, which takes seconds to import.

Kinds
-----
retrieval
    Network with ``loss``, ``embed_images`` and ``embed_expression``; predicts by averaging the expression of the most
    similar training spots.
regression
    Network with ``loss`` and ``predict``.
clustering
    Network with ``loss``, ``embed_images`` and ``embed_expression``; predicts nothing, but embeds the spots of a slide,
    image and expression together, so that the tissue's structure shows.
frozen
    Fits on the embeddings of a frozen image encoder.
control
    Predicts from the training expression without any image; stands in every table, beside the methods.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.models.options import Options
from spotwise.runtime.validation import validated

if TYPE_CHECKING:
    from spotwise.models.base import Method
    from spotwise.models.sizes import Sizes


class WeightsError(ValueError):
    """Weights whose names or shapes are not those of a network."""


@dataclass(frozen=True)
class Entry:
    """Where a method is and of which kind.

    Attributes
    ----------
    kind
        One of the kinds above.
    module
        Module of :mod:`spotwise.models` that holds the class, named like the registry key. Its options are
        ``<key>Options`` in ``<module>_options``.
    seeded
        Whether anything in the method is random; the others run once, whatever the seeds.
    features
        Whether a trained method uses the embeddings of a frozen encoder, too.
    has_context
        Whether a frozen method fits on blocks of context features instead of one embedding per patch. Its options then
        have ``fields``, the sizes of the squares to describe.
    reads_expression
        Whether a frozen method averages training expression when it predicts.
    """

    kind: str
    module: str
    seeded: bool = True
    features: bool = False
    has_context: bool = False
    reads_expression: bool = False

    @property
    def trained(self) -> bool:
        """Whether the training loop trains it."""
        return self.kind in ("retrieval", "regression", "clustering")

    @property
    def predicts(self) -> bool:
        """Whether it predicts expression, and so has folds, scores and a row in every table."""
        return self.kind != "clustering"

    @property
    def uses_encoder(self) -> bool:
        """Whether its configuration entry names a frozen encoder."""
        return self.kind == "frozen" or self.features

    @property
    def uses_bank(self) -> bool:
        """Whether a prediction reads the training spots."""
        return self.kind == "retrieval" or self.features or self.reads_expression


REGISTRY: Mapping[str, Entry] = {
    "CMRCNet": Entry("retrieval", "cmrcnet"),
    "BLEEP": Entry("retrieval", "bleep"),
    "STNet": Entry("regression", "stnet"),
    "HisToGene": Entry("regression", "histogene"),
    "CTransPath": Entry("regression", "ctranspath"),
    "NH2ST": Entry("regression", "nh2st"),
    "EGN": Entry("regression", "egn", features=True),
    "MicNet": Entry("clustering", "micnet"),
    "Ridge": Entry("frozen", "ridge", seeded=False),
    "ContextRidge": Entry("frozen", "context_ridge", seeded=False, has_context=True),
    "KNNImage": Entry("frozen", "knn", seeded=False, reads_expression=True),
    "TrainMean": Entry("control", "controls", seeded=False),
    "RandomRetrieval": Entry("control", "controls"),
    "LibrarySize": Entry("control", "controls", seeded=False),
    "Coordinates": Entry("control", "controls", seeded=False),
    "NeighbourSlide": Entry("control", "controls", seeded=False),
    "Oracle": Entry("control", "controls", seeded=False),
    "NoiseCeiling": Entry("control", "controls"),
}


def load(name: str) -> type:
    """Return the class of a registered method."""
    return getattr(importlib.import_module(f"spotwise.models.{REGISTRY[name].module}"), name)


def options_class(name: str) -> type[Options]:
    """Return the class of the options of a registered method."""
    return getattr(importlib.import_module(f"spotwise.models.{REGISTRY[name].module}_options"), f"{name}Options")


def options(name: str, given: Mapping[str, object], where: str = "", field: str = "") -> Options:
    """Check the options of a registered method and add the defaults of the others.

    ``where`` and ``field`` are the file and the dotted field that hold ``given``, for messages; the method by default.

    Raises
    ------
    InputError
        For an unknown option, or a value of another type or outside its range.
    """
    return validated(options_class(name), given, where or name, field)


def resolved_options(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Return all options of a registered method, the defaults of those that are not given included."""
    return options(name, given).model_dump()


def build(name: str, sizes: Sizes, given: Mapping[str, object]) -> Method:
    """Return a freshly initialised trained method."""
    return load(name).of(sizes, options(name, given))


def without_pretraining(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Return the options for a model whose weights come from a file, not from the encoder's publisher."""
    nothing = {"pretrained": "no", "checkpoint": ""}
    return {**given, **{key: value for key, value in nothing.items() if key in options_class(name).model_fields}}


def restore(name: str, sizes: Sizes, given: Mapping[str, object], weights: Path) -> Method:
    """Return a trained method with the ``weights.safetensors`` of its training, in evaluation mode.

    Raises
    ------
    WeightsError
        The weights are those of another network.
    """
    from safetensors.torch import load_model

    model = build(name, sizes, without_pretraining(name, given))
    try:
        load_model(model, weights)
    except RuntimeError as error:
        raise WeightsError(str(error)) from None
    return model.eval()
