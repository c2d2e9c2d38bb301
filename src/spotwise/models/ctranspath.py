"""CTransPath: a Swin transformer with a convolutional stem, pretrained on slides (Wang et al., Med Image Anal 2022).

The authors' code (Xiyue-Wang/TransPath) needs a modified timm 0.5.4. Here a current timm builds the same network, and
the published weights are renamed to its layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from spotwise.errors import InputError
from spotwise.models.base import LinearReadout
from spotwise.models.batch import Batch
from spotwise.models.ctranspath_options import STRIDE, CTransPathOptions
from spotwise.models.images import fixed_input
from spotwise.models.losses import at_least_float32
from spotwise.models.pretrained_weights import from_hub, pretrained_or_random

# Location of the weights, in a gated dataset. Neither its commit nor the file's hash is pinned, as neither could be
# verified; a file of another layout is refused.
REPO, FILE = "MahmoodLab/hest-bench", "fm_v1/ctranspath/ctranspath.pth"

# Computed, not learned; timm keeps them out of its layout
COMPUTED = ("attn_mask", "relative_position_index")


class ConvStem(nn.Module):
    """Patch embedding by two strided convolutions and a projection, one token for 4 x 4 pixels.

    The parameters are those that timm's Swin passes to any patch embedding. ``patch_size``, ``strict_img_size`` and
    ``output_fmt`` must be 4, true and ``NHWC``. Images have the side ``img_size``, as the attention masks after the
    stem are made for it.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        norm_layer: type[nn.Module],
        strict_img_size: bool = True,
        output_fmt: str = "NHWC",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if (patch_size, strict_img_size, output_fmt) != (STRIDE, True, "NHWC"):
            raise ValueError(f"no such stem: patch_size {patch_size}, {strict_img_size=}, {output_fmt=}")
        made = {"device": device, "dtype": dtype}
        self.img_size = img_size
        self.grid_size = (img_size // STRIDE, img_size // STRIDE)
        eighth, quarter = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, eighth, kernel_size=3, stride=2, padding=1, bias=False, **made),
            nn.BatchNorm2d(eighth, **made),
            nn.ReLU(),
            nn.Conv2d(eighth, quarter, kernel_size=3, stride=2, padding=1, bias=False, **made),
            nn.BatchNorm2d(quarter, **made),
            nn.ReLU(),
            nn.Conv2d(quarter, embed_dim, kernel_size=1, **made),
        )
        self.norm = norm_layer(embed_dim, **made)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, H / 4, W / 4, D)."""
        if images.shape[2:] != (self.img_size, self.img_size):
            found = " x ".join(str(side) for side in images.shape[2:])
            raise InputError("CTransPath", "images", f"{found} px", f"{self.img_size} x {self.img_size} px")
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


def ctranspath_backbone(
    image_size: int = 224,
    embed_dim: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    heads: tuple[int, ...] = (3, 6, 12, 24),
) -> nn.Module:
    """Create CTransPath with random weights.

    It maps images (B, 3, H, W) to features (B, F), averaged over the tokens. Its attribute ``from_published`` is
    :func:`from_published`, so that checkpoints of the published layout load.

    Parameters
    ----------
    image_size
        Side in pixels, a multiple of 4. Windows are 7 x 7 tokens; where the tokens a side of a stage are not a multiple
        of 7, timm pads, or makes one smaller window.
    embed_dim
        Channels of the first stage. Every stage doubles them, so that F is 8 times as many: 768.
    depths, heads
        Blocks and attention heads of each stage.
    """
    backbone = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=0,
        img_size=image_size,
        embed_layer=ConvStem,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=heads,
    )
    backbone.from_published = from_published
    return backbone


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of the published layout to timm's, 200 entries to 183.

    Masks and indices, which timm computes, are left out. The published layout assigns the merging of patches to the
    stage before it, timm to the stage after it.
    """
    return {
        re.sub(r"^layers\.(\d+)\.downsample\.", lambda stage: f"layers.{int(stage[1]) + 1}.downsample.", key): value
        for key, value in state.items()
        if not key.endswith(COMPUTED)
    }


def ctranspath_encoder(pretrained: str, checkpoint: str = "") -> tuple[nn.Module, bool]:
    """Create CTransPath as a frozen encoder.

    The parameters are those of :func:`spotwise.models.encoders.frozen_encoder`, with a local ``ctranspath.pth`` as
    ``checkpoint`` or ``""`` for the one in a gated dataset on the hub. So are its errors.

    Returns
    -------
    encoder, loaded
        Images (B, 3, 224, 224) to features (B, 768), and whether it has its pretrained weights.
    """
    backbone, loaded = _with_weights((), pretrained, checkpoint)
    backbone.pretrained_cfg = fixed_input(224)
    return backbone, loaded


def _with_weights(shape: tuple, pretrained: str, checkpoint: str) -> tuple[nn.Module, bool]:
    """Create a backbone with the arguments ``shape``, and return whether it has weights of a file."""
    build = partial(ctranspath_backbone, *shape)
    create = partial(from_hub, build, REPO, file=FILE, repo_type="dataset")
    return pretrained_or_random("CTransPath", pretrained, create, checkpoint, f"datasets/{REPO}")


class CTransPath(LinearReadout):
    """CTransPath and a linear layer, both trained, under the mean squared error.

    CMRCNet's comparison does not describe its use of CTransPath beyond the word fine-tuning, which is taken to mean
    both parts. The encoder's own repository has a linear layer on the frozen encoder. The other interpretation, ridge
    regression on frozen features, uses :func:`ctranspath_encoder`.

    Raises
    ------
    InputError
        If a file of weights does not exist or does not fit.
    """

    def __init__(self, n_genes: int, options: CTransPathOptions):
        super().__init__(options)
        if options.checkpoint or options.published:
            self.image_encoder, self.pretrained_loaded = _with_weights(
                options.shape, options.pretrained, options.checkpoint
            )
        else:
            self.image_encoder = ctranspath_backbone(*options.shape)
        self.head = nn.Linear(self.image_encoder.head_hidden_size, n_genes)

    @property
    def encoder_name(self) -> str:
        """Name of the image encoder."""
        return "ctranspath"

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error over spots and genes."""
        return {"total": functional.mse_loss(at_least_float32(self.predict(batch)), batch.expression)}
