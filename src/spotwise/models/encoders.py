"""Image encoders: timm's and those of pathology by name, with their published weights where these can be had."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import huggingface_hub
import timm
from timm.models import load_state_dict
from torch import Tensor, nn

from spotwise.data.credentials import TOKEN_VARIABLE
from spotwise.errors import InputError, SetupError
from spotwise.models.encoder_names import CTRANSPATH
from spotwise.models.pathology import PATHOLOGY, published

# How long the server of pretrained weights may take to say anything at all
PROBE_SECONDS = 5

REFUSED = (401, 403)  # status of an answer to no token, a wrong one, or one without access

WEIGHTS = "pytorch_model.bin"  # in the repository of each pathology encoder

logger = logging.getLogger(__name__)


def timm_encoder(name: str, pretrained: str) -> tuple[nn.Module, bool]:
    """A timm model to train, features averaged over the image (B, F), and whether it has its pretrained weights.

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
    return pretrained_or_random(name, pretrained, partial(_timm_model, name, global_pool="avg"))


def check_timm_model(method: str, name: str) -> None:
    """Check that timm has the encoder that a method's option names, with its tag where it has one.

    Raises
    ------
    InputError
        If timm has no such model.
    """
    if not is_timm_model(name):
        raise InputError(method, "encoder", repr(name), "the name of a timm model")


def is_timm_model(name: str) -> bool:
    """Tell whether timm has a model of a name, and the tag of one such as ``resnet50.tv_in1k``."""
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        return False
    return True


def frozen_encoder(name: str, pretrained: str, checkpoint: str = "") -> tuple[nn.Module, bool]:
    """An encoder as it was published, pooled features (B, F), and whether it has its pretrained weights.

    Its ``pretrained_cfg`` holds ``mean``, ``std`` and ``input_size`` of the images, and whether no other size will do
    (``fixed_input_size``); its ``num_features`` is F.

    Parameters
    ----------
    name
        A key of ``PATHOLOGY``, ``ctranspath``, the name of a timm model, or ``hf-hub:<owner>/<name>`` for a model on
        the Hugging Face hub that says how timm builds it.
    pretrained
        As in :func:`timm_encoder`.
    checkpoint
        A local file with the weights, ``.safetensors`` or torch's, which must fit entry by entry; ``""`` for the
        published ones. It is opened as data: no code in it is run.

    Raises
    ------
    InputError
        If there is no encoder of that name, or the checkpoint is contradicted, not there, or of another encoder.
    SetupError
        If pretrained weights are required and cannot be had, or the hub does not tell how to build the encoder.
    """
    if checkpoint and pretrained == "no":
        raise InputError(
            "encoder", "pretrained", "'no' with a checkpoint", "when_reachable or required, or no checkpoint"
        )
    if name.lower() == CTRANSPATH:
        from spotwise.models.ctranspath import ctranspath_encoder

        return ctranspath_encoder(pretrained, checkpoint)
    page, create = _source(name)
    return pretrained_or_random(name, pretrained, create, checkpoint, page)


def _source(name: str) -> tuple[str, Callable[..., nn.Module]]:
    """The page of a frozen encoder on the hub, none for timm's own, and what builds it."""
    if known := published(name):
        return known.repository, partial(from_hub, known.build, known.repository)
    if ":" in name:
        return name.partition(":")[2], partial(_hub_model, name)
    if not is_timm_model(name):
        expected = f"{', '.join(PATHOLOGY)}, {CTRANSPATH}, the name of a timm model, or hf-hub:<owner>/<name>"
        raise InputError("encoder", "timm", repr(name), expected)
    return "", partial(_timm_model, name)


def _timm_model(name: str, pretrained: bool, **pooling: str) -> nn.Module:
    return timm.create_model(name, pretrained=pretrained, num_classes=0, **pooling)


def _hub_model(name: str, pretrained: bool) -> nn.Module:
    """A timm model that its repository describes, so that the hub (or its cache) is needed for random weights, too."""
    if pretrained:
        return _timm_model(name, pretrained=True)
    try:
        with _impatient_hub():
            return _timm_model(name, pretrained=False)
    except Exception as problem:  # as in pretrained_or_random, and whatever timm makes of a strange description
        reason, remedy = _told(problem, name.partition(":")[2])
        raise SetupError(f"timm cannot build {name} ({type(problem).__name__}: {reason}); {remedy}") from None


# Weights


def pretrained_or_random(
    name: str, pretrained: str, create: Callable[..., nn.Module], checkpoint: str = "", page: str = ""
) -> tuple[nn.Module, bool]:
    """An encoder, and whether it has its pretrained weights.

    Parameters
    ----------
    name
        That messages give it.
    pretrained
        As in :func:`timm_encoder`.
    create
        Builds it, with published weights if called with ``pretrained=True``.
    checkpoint
        A local file to take the weights from instead; ``""`` for none. Not read where ``pretrained`` is ``no``.
    page
        Path on the hub at which the published weights are offered, for messages; ``""`` for timm's own.

    Raises
    ------
    InputError
        If a file of weights is not there, cannot be read or does not fit: random ones never replace it.
    SetupError
        If pretrained weights are required and cannot be had.
    """
    if pretrained == "no":
        return create(pretrained=False), False
    if checkpoint:
        module = create(pretrained=False)
        load_checkpoint(module, checkpoint, name)
        return module, True
    try:
        with _impatient_hub():
            return create(pretrained=True), True
    except InputError:  # weights were had, but do not fit
        raise
    # The hub's client, its transport and timm raise classes without a common base that change with their versions.
    except Exception as problem:
        reason, remedy = _told(problem, page)
        at = f" at {page}" if page else ""
        if pretrained == "required":
            # `from None`: the client's errors carry the request, and with it the token
            raise SetupError(f"no pretrained weights for {name}{at} ({reason}); {remedy}") from None
        logger.warning("%s starts from random weights, as none could be had%s: %s", name, at, reason)
    return create(pretrained=False), False


def from_hub(
    build: Callable[[], nn.Module], repository: str, pretrained: bool, file: str = WEIGHTS, repo_type: str = "model"
) -> nn.Module:
    """What ``build`` makes, with the weights in a repository's ``file`` if ``pretrained``."""
    weights = None
    if pretrained:  # first, as a giant takes long to build
        token = os.environ.get(TOKEN_VARIABLE, "").strip() or False  # None would make the client look for one on disk
        weights = huggingface_hub.hf_hub_download(repository, file, repo_type=repo_type, token=token)
    module = build()
    if weights is not None:
        load_checkpoint(module, weights, repository)
    return module


def load_checkpoint(module: nn.Module, path: str | Path, name: str) -> None:
    """Load a file of weights in the published layout; a timm model's classifier is left out.

    Parameters
    ----------
    module
        The encoder ``name``; its ``from_published``, where it has one, picks its entries and gives them its names.
    path
        ``.safetensors``, or torch's with nothing but tensors, as they are or under ``state_dict`` or ``model``.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, or an entry is missing, unknown, or of another shape.
    """
    if not Path(path).is_file():
        raise InputError(path, "checkpoint", "no such file", f"the weights of {name}")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as problem:  # a damaged file, or one with code, surfaces as whatever its reader trips over
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise InputError(path, "checkpoint", f"contents that cannot be read ({reason})", "tensors by name") from None
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(path, "checkpoint", "something else", "tensors by name, as they are or under 'model'")
    weights, expected = _of_encoder(module, weights), module.state_dict()
    for entry in [*expected, *weights]:
        found = tuple(weights[entry].shape) if entry in weights else "nothing"
        wanted = tuple(expected[entry].shape) if entry in expected else "nothing"
        if found != wanted:
            raise InputError(path, entry, found, f"{wanted}, as in {name}")
    module.load_state_dict(weights)


def _of_encoder(module: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The entries of a published checkpoint that belong to the encoder."""
    if hasattr(module, "from_published"):
        return module.from_published(weights)
    classifier = module.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else classifier
    return {name: value for name, value in weights.items() if name.rpartition(".")[0] not in heads}


def _told(problem: Exception, page: str) -> tuple[str, str]:
    """What went wrong, in one line without the token, and what to do."""
    status = getattr(getattr(problem, "response", None), "status_code", None)
    if status in REFUSED:
        address = f"{huggingface_hub.constants.ENDPOINT}/{page}"
        return f"the hub refuses them, status {status}", (
            f"accept the terms at {address} and set {TOKEN_VARIABLE} to a token of that account, or name a local file "
            "as checkpoint"
        )
    reason = " ".join(str(problem).split()) or type(problem).__name__
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return (reason.replace(token, "<token>") if token else reason), (
        "connect this machine, fill its cache from one that is connected, name a local file where checkpoint is an "
        "option, or set pretrained: when_reachable"
    )


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
