"""Image encoders of timm, encoders of pathology, CTransPath and `imagenet-small`, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import timm
from torch import nn

from spotwise.errors import InputError, SetupError
from spotwise.models.ctranspath import ctranspath_encoder
from spotwise.models.encoder_names import CTRANSPATH, IMAGENET_SMALL, RESNET50, RESNET50_STAGE3, is_imagenet_small
from spotwise.models.imagenet_small import ARCHITECTURE, imagenet_small
from spotwise.models.pathology import PATHOLOGY, published
from spotwise.models.pretrained_weights import (
    error_message,
    from_hub,
    offline_unless_reachable,
    pretrained_or_random,
)


def timm_config(name: str) -> timm.models.PretrainedCfg | None:
    """Return timm's description of a model, ``None`` for an unknown name or tag."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        return None


def frozen_encoder(name: str, pretrained: str, checkpoint: str = "") -> tuple[nn.Module, bool]:
    """Create an encoder as it was published.

    Parameters
    ----------
    name
        ``imagenet-small``, a key of ``PATHOLOGY``, ``ctranspath``, the name of a timm model, or
        ``hf-hub:<owner>/<name>`` for a model on the Hugging Face hub with a description that timm can build.
    pretrained
        As in :func:`spotwise.models.pretrained_weights.pretrained_or_random`.
    checkpoint
        A local file with the weights, ``.safetensors`` or torch's, which must fit entry by entry; ``""`` for the
        published ones. It is read as data: no code in it runs.

    Returns
    -------
    encoder, loaded
        Images (B, 3, H, W) to pooled features (B, F), and whether it has its pretrained weights. The attribute
        ``pretrained_cfg`` holds ``mean``, ``std`` and ``input_size`` of the images, and whether only that size is
        possible (``fixed_input_size``); ``num_features`` is F.

    Raises
    ------
    InputError
        If there is no encoder of that name, or the checkpoint is contradicted, missing, or of another encoder.
    SetupError
        If pretrained weights are required and not available, or timm cannot build the encoder from the hub.
    """
    if checkpoint and pretrained == "no":
        raise InputError(
            "encoder", "pretrained", "'no' with a checkpoint", "if_available or required, or no checkpoint"
        )
    if is_imagenet_small(name):
        if checkpoint:
            expected = f"none, as {IMAGENET_SMALL} has the weights of a package; {ARCHITECTURE} takes others"
            raise InputError("encoder", "checkpoint", repr(checkpoint), expected)
        return imagenet_small(pretrained)
    if name.lower() == CTRANSPATH:
        return ctranspath_encoder(pretrained, checkpoint)
    page, create = _source(name)
    return pretrained_or_random(name, pretrained, create, checkpoint, page)


def timm_encoder(name: str, pretrained: str, method: str = "encoder") -> tuple[nn.Module, bool]:
    """Create a timm model to train, with features averaged over the image.

    As :func:`frozen_encoder`, but for the names that timm knows. ``method`` is the one whose option ``encoder`` holds
    the name, for messages.
    """
    if timm_config(name) is None:
        raise InputError(method, "encoder", repr(name), "the name of a timm model")
    return pretrained_or_random(name, pretrained, partial(_timm_model, name, global_pool="avg"))


def _source(name: str) -> tuple[str, Callable[..., nn.Module]]:
    """Return the page of an encoder on the hub, ``""`` for timm's own, and the function that creates it."""
    if known := published(name):
        return known.repository, partial(from_hub, known.build, known.repository, file=known.file)
    if ":" in name:
        return name.partition(":")[2], partial(_hub_model, name)
    if name.lower() == RESNET50_STAGE3:
        return "", _resnet50_stage3
    if timm_config(name) is None:
        names = ", ".join([IMAGENET_SMALL, *PATHOLOGY, CTRANSPATH, RESNET50_STAGE3])
        expected = f"{names}, the name of a timm model, or hf-hub:<owner>/<name>"
        raise InputError("encoder", "timm", repr(name), expected)
    return "", partial(_timm_model, name)


def _timm_model(name: str, pretrained: bool, **pooling: str) -> nn.Module:
    return timm.create_model(name, pretrained=pretrained, num_classes=0, **pooling)


def _resnet50_stage3(pretrained: bool) -> nn.Module:
    """Create ResNet50 up to its third stage, with features (B, 1024) averaged over the image."""
    model = _timm_model(RESNET50, pretrained)
    model.layer4 = nn.Identity()
    model.num_features = model.head_hidden_size = model.layer3[-1].conv3.out_channels
    return model


def _hub_model(name: str, pretrained: bool) -> nn.Module:
    """Create a timm model from the description in its repository, which random weights need, too."""
    if pretrained:
        return _timm_model(name, pretrained=True)
    try:
        with offline_unless_reachable():
            return _timm_model(name, pretrained=False)
    except Exception as problem:  # as in pretrained_or_random, and anything that timm raises for an unusual description
        reason, remedy = error_message(problem, name.partition(":")[2])
        raise SetupError(f"timm cannot build {name} ({type(problem).__name__}: {reason}); {remedy}") from None
