"""The registry of methods. Adding one takes a file here, a line in ``REGISTRY`` and an entry in the configuration.

Importing this module imports no method: the workflow asks it for names and kinds, and torch costs seconds.

Kinds
-----
retrieval
    ``torch.nn.Module`` with ``loss(batch)``, ``embed_images`` and ``embed_expression``; predicts by averaging the
    expression of the most similar training spots.
regression
    ``torch.nn.Module`` with ``loss(batch)`` and ``predict(batch)``.
clustering
    ``torch.nn.Module`` with ``loss(batch)``, ``embed_images`` and ``embed_expression``; predicts nothing, but embeds
    the spots of a slide, image and expression together, so that the tissue's structure shows.
frozen
    Fits on the embeddings of a frozen image encoder.
control
    Predicts from the training expression without any image; stands in every table, beside the methods.
"""

from __future__ import annotations

import ast
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.errors import InputError, one_of

if TYPE_CHECKING:
    from spotwise.models.base import Method
    from spotwise.models.description import Sizes


@dataclass(frozen=True)
class Entry:
    """Where a method is and of which kind.

    Attributes
    ----------
    kind
        ``retrieval``, ``regression``, ``clustering``, ``frozen`` or ``control``.
    module
        Module of :mod:`spotwise.models.registry` that holds the class, named like the registry key, and ``<key>Options``.
    seeded
        Whether anything in the method is random; the others run once, whatever the seeds.
    features
        Whether a trained method uses the embeddings of a frozen encoder, too.
    """

    kind: str
    module: str
    seeded: bool = True
    features: bool = False

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
    "KNNImage": Entry("frozen", "knn", seeded=False),
    "TrainMean": Entry("control", "controls", seeded=False),
    "RandomRetrieval": Entry("control", "controls"),
    "LibrarySize": Entry("control", "controls", seeded=False),
    "Coordinates": Entry("control", "controls", seeded=False),
    "NeighbourSlide": Entry("control", "controls", seeded=False),
    "Oracle": Entry("control", "controls", seeded=False),
    "NoiseCeiling": Entry("control", "controls"),
}


def load(name: str) -> type:
    """The class of a registered method."""
    return getattr(importlib.import_module(f"spotwise.models.{REGISTRY[name].module}"), name)


def options(name: str, given: Mapping[str, object]):
    """The options dataclass of a registered method, with the values of its configuration entry."""
    return getattr(importlib.import_module(f"spotwise.models.{REGISTRY[name].module}"), f"{name}Options")(**given)


def build(name: str, sizes: Sizes, given: Mapping[str, object]) -> Method:
    """A freshly initialised trained method, with the options of its configuration entry."""
    return load(name).of(sizes, options(name, given))


def without_pretraining(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """The same options for a model whose weights come from a file, not from the encoder's publisher."""
    nothing = {"pretrained": "no", "checkpoint": ""}
    return {**given, **{key: value for key, value in nothing.items() if key in _declared_options(name)}}


def restore(name: str, sizes: Sizes, given: Mapping[str, object], weights: Path) -> Method:
    """A trained method with the ``weights.safetensors`` of its training, in evaluation mode."""
    from safetensors.torch import load_model

    model = build(name, sizes, without_pretraining(name, given))
    load_model(model, weights)
    return model.eval()


@dataclass(frozen=True)
class _Option:
    type: str
    choices: tuple[object, ...] | None
    default: ast.expr | None


@cache
def _declared_options(name: str) -> dict[str, _Option]:
    """The fields of ``<name>Options``, read from its source: importing it would import torch."""
    source = Path(__file__).with_name(f"{REGISTRY[name].module}.py").read_text(encoding="utf-8")
    declared: dict[str, _Option] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == f"{name}Options":
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    declared[field.target.id] = _option(field.annotation, field.value)
    return declared


def _option(annotation: ast.expr, default: ast.expr | None) -> _Option:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        choices = ast.literal_eval(annotation.slice)
        choices = choices if isinstance(choices, tuple) else (choices,)
        return _Option(type(choices[0]).__name__, choices, default)
    return _Option(ast.unparse(annotation), None, default)


def resolved_options(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """All options of a registered method: those of its configuration entry, and the defaults of the others."""
    options = _declared_options(name).items()
    return {key: given[key] if key in given else ast.literal_eval(option.default) for key, option in options}


def is_pathology_encoder(name: str) -> bool:
    """Whether :func:`spotwise.models.encoders.frozen_encoder` takes ``name`` for a foundation model of pathology.

    Its names are read from the source, too: of the encoders, and of their repositories.
    """
    source = Path(__file__).with_name("pathology.py").read_text(encoding="utf-8")
    known = {"ctranspath"}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PATHOLOGY":
            for short, encoder in zip(node.value.keys, node.value.values, strict=True):
                known |= {short.value.lower(), encoder.args[0].value.lower()}
    return re.sub("^hf[-_]hub:", "", name.lower()) in known


def check_options(name: str, given: Mapping[str, object], where: str) -> None:
    """Check the options of a configuration entry against the dataclass of its method.

    Raises
    ------
    InputError
        For an unknown option, a value of another type, or one that is not among the choices.
    """
    declared = _declared_options(name)
    for key, value in given.items():
        if key not in declared:
            raise InputError(where, key, "an unknown option", one_of(declared, key))
        option = declared[key]
        if option.choices is not None and value not in option.choices:
            raise InputError(where, key, repr(value), one_of(option.choices, value))
        right = type(value).__name__ == option.type or (option.type == "float" and type(value) is int)
        if not right or (type(value) is float and not math.isfinite(value)):
            raise InputError(where, key, repr(value), f"a value of type {option.type}")
