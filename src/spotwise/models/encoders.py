"""Image encoders from timm, with their published weights where these can be had."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
import timm
from torch import nn

from spotwise.errors import InputError, SetupError

# How long the server of pretrained weights may take to say anything at all
PROBE_SECONDS = 5

logger = logging.getLogger(__name__)


def timm_encoder(name: str, pretrained: str) -> tuple[nn.Module, bool]:
    """A timm model that gives pooled features (B, F), and whether it has its pretrained weights.

    Parameters
    ----------
    name
        Of a timm model.
    pretrained
        ``no``; ``required``; or ``when_reachable``: random weights, with a warning, where none can be had.

    Raises
    ------
    InputError
        If timm has no such model.
    SetupError
        If pretrained weights are required and cannot be had.
    """
    if not timm.is_model(name):
        raise InputError("encoder", "timm", repr(name), "the name of a timm model")
    if pretrained != "no":
        try:
            with _impatient_hub():
                return _create(name, pretrained=True), True
        # The hub's client, its transport and timm raise classes without a common base that change with their versions.
        except Exception as problem:
            reason = " ".join(str(problem).split())
            if pretrained == "required":
                raise SetupError(
                    f"no pretrained weights for {name} ({reason}); connect this machine, fill its cache from one that "
                    "is connected, or set pretrained: when_reachable"
                ) from problem
            logger.warning("%s starts from random weights, as none could be had: %s", name, reason)
    return _create(name, pretrained=False), False


def _create(name: str, pretrained: bool) -> nn.Module:
    return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="avg")


@contextmanager
def _impatient_hub() -> Iterator[None]:
    """Look for weights in the local cache only, unless the server answers a first question.

    Its client would otherwise repeat the question for a minute wherever there is no network, as on most compute nodes.
    """
    settings = huggingface_hub.constants
    offline = settings.HF_HUB_OFFLINE
    try:
        huggingface_hub.get_session().head(settings.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # whatever the transport raises: there is no way to the server
        settings.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = offline
