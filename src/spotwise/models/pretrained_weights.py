"""Published weights of image encoders, from the Hugging Face hub, its cache, or a local file."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from spotwise.data.credentials import TOKEN_VARIABLE
from spotwise.errors import InputError, SetupError

PROBE_SECONDS = 5  # timeout of the first request to the hub
REFUSED = (401, 403)  # HTTP status without a token, with a wrong one, or without access
FILE = "pytorch_model.bin"  # in the repositories of most pathology encoders

logger = logging.getLogger(__name__)


def weights_hash(model: nn.Module) -> str:
    """Compute the SHA-256 of names, shapes and values of a model's weights, whatever its device."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pretrained_or_random(
    name: str, pretrained: str, create: Callable[..., nn.Module], checkpoint: str = "", page: str = ""
) -> tuple[nn.Module, bool]:
    """Create an encoder, with its pretrained weights where available.

    Parameters
    ----------
    name, page
        Name, and path on the hub that offers the published weights, for messages; ``""`` for timm's own.
    pretrained
        ``no``; ``required``; or ``if_available``: random weights, with a warning, where none are available.
    create
        Creates the encoder, with published weights if called with ``pretrained=True``.
    checkpoint
        A local file to take the weights from instead, ``""`` for none. Not read where ``pretrained`` is ``no``.

    Returns
    -------
    encoder, loaded
        The encoder, and whether it has its pretrained weights.

    Raises
    ------
    InputError
        If a file of weights does not exist, cannot be read or does not fit. Random weights never replace it.
    SetupError
        If pretrained weights are required and not available.
    """
    if pretrained == "no":
        return create(pretrained=False), False
    if checkpoint:
        module = create(pretrained=False)
        load_checkpoint(module, checkpoint, name)
        return module, True
    try:
        with offline_unless_reachable():
            return create(pretrained=True), True
    except InputError:  # the weights were downloaded and do not fit
        raise
    # The hub's client, its transport and timm raise classes without a common base that change with their versions.
    except Exception as problem:
        reason, remedy = error_message(problem, page)
        at = f" at {page}" if page else ""
        if pretrained == "required":
            # `from None`: the client's errors hold the request, and with it the token
            raise SetupError(f"no pretrained weights for {name}{at} ({reason}); {remedy}") from None
        logger.warning("%s starts from random weights, as none are available%s: %s", name, at, reason)
    return create(pretrained=False), False


def from_hub(
    build: Callable[[], nn.Module], repository: str, pretrained: bool, file: str = FILE, repo_type: str = "model"
) -> nn.Module:
    """Build an encoder, with the weights in a repository's ``file`` if ``pretrained``."""
    weights = None
    if pretrained:  # before the network is built, which takes long for the largest
        token = os.environ.get(TOKEN_VARIABLE, "").strip() or False  # None would make the client look for one on disk
        weights = huggingface_hub.hf_hub_download(repository, file, repo_type=repo_type, token=token)
    module = build()
    if weights is not None:
        load_checkpoint(module, weights, repository)
    return module


def load_checkpoint(module: nn.Module, path: str | Path, name: str) -> None:
    """Load a file of weights in the published layout, without the classifier of a timm model.

    ``path`` is a ``.safetensors`` file, or torch's with nothing but tensors, at the top level or under ``state_dict``
    or ``model``. The encoder's attribute ``from_published``, if any, selects its entries and renames them.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, or an entry is missing, unknown, or of another shape.
    """
    if not Path(path).is_file():
        raise InputError(path, "checkpoint", "no such file", f"the weights of {name}")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as problem:  # a damaged file, or one with code, makes its reader raise anything
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise InputError(path, "checkpoint", f"contents that cannot be read ({reason})", "tensors by name") from None
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(path, "checkpoint", "something else", "tensors by name, at the top level or under 'model'")
    weights, expected = _of_encoder(module, weights), module.state_dict()
    for entry in [*expected, *weights]:
        found = tuple(weights[entry].shape) if entry in weights else "nothing"
        wanted = tuple(expected[entry].shape) if entry in expected else "nothing"
        if found != wanted:
            raise InputError(path, entry, found, f"{wanted}, as in {name}")
    module.load_state_dict(weights)


def _of_encoder(module: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Select the entries of a published checkpoint that belong to the encoder."""
    if hasattr(module, "from_published"):
        return module.from_published(weights)
    classifier = module.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else classifier
    return {name: value for name, value in weights.items() if name.rpartition(".")[0] not in heads}


def error_message(problem: Exception, page: str) -> tuple[str, str]:
    """Return the reason of a failed download, in one line without the token, and its remedy."""
    status = getattr(getattr(problem, "response", None), "status_code", None)
    if status in REFUSED:
        address = f"{huggingface_hub.constants.ENDPOINT}/{page}"
        return f"the hub refuses access, status {status}", (
            f"accept the terms at {address} and set {TOKEN_VARIABLE} to a token of that account, or name a local file "
            "as checkpoint"
        )
    reason = " ".join(str(problem).split()) or type(problem).__name__
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return (reason.replace(token, "<token>") if token else reason), (
        "connect this machine, fill its cache from one that is connected, name a local file where checkpoint is an "
        "option, or set pretrained: if_available"
    )


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Use the local cache alone in the body, unless the hub answers a first request.

    Its client would otherwise retry for a minute wherever there is no network, as on most compute nodes.
    """
    settings = huggingface_hub.constants
    offline = settings.HF_HUB_OFFLINE
    try:
        huggingface_hub.get_session().head(settings.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # the transport raises classes without a common base
        settings.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = offline
