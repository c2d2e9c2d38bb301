"""CTransPath: a Swin transformer with a convolutional stem, pretrained on slides (Wang et al., Med Image Anal 2022).

Its code (Xiyue-Wang/TransPath) needs an altered timm 0.5.4. Here a current timm builds the same network, and the
published weights are renamed to its layout.
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
from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.ctranspath_options import STRIDE, CTransPathOptions
from spotwise.models.images import IMAGENET_MEAN, IMAGENET_STD
from spotwise.models.losses import at_least_float32
from spotwise.models.pretrained_weights import from_hub, pretrained_or_random

# Where the weights are: a gated dataset. Neither its commit nor the file's hash is pinned, as neither could be checked
# when this was written; a file of another layout is refused.
REPO, FILE = "MahmoodLab/hest-bench", "fm_v1/ctranspath/ctranspath.pth"

# Computed, not learned; timm keeps them out of its layout
COMPUTED = ("attn_mask", "relative_position_index")


class ConvStem(nn.Module):
    """CTransPath's patch embedding: two strided convolutions and a projection, one token for 4 x 4 pixels.

    The parameters are those that timm's Swin hands to any patch embedding.

    Parameters
    ----------
    img_size
        Side of an image in pixels. No other is taken: the attention masks behind the stem are made for it.
    patch_size
        4, what two strides of 2 give.
    in_chans, embed_dim
        Channels in and out; an eighth and a quarter of the latter in between.
    norm_layer
        Of the tokens.
    strict_img_size, output_fmt
        True and ``NHWC``, the only ways this stem has.
    device, dtype
        Of the parameters.
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
        """(B, 3, H, W) -> (B, H / 4, W / 4, D)."""
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
    """CTransPath with random weights: images (B, 3, H, W) -> features (B, F), averaged over the tokens.

    Its ``from_published`` is :func:`from_published`, so that checkpoints of the published layout load.

    Parameters
    ----------
    image_size
        Pixels, H = W, a multiple of 4. Windows are 7 x 7 tokens; where a stage has another number of tokens a side than
        a multiple of 7, timm pads, or makes one smaller window.
    embed_dim
        Channels of the first stage; every stage doubles them, so that F is 768.
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


# Published weights


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the published layout under timm's names: 200 entries -> 183.

    Masks and indices, which timm computes, are left out. The published layout counts the merging of patches to the
    stage before it, timm to the stage after it.
    """
    return {
        re.sub(r"^layers\.(\d+)\.downsample\.", lambda stage: f"layers.{int(stage[1]) + 1}.downsample.", key): value
        for key, value in state.items()
        if not key.endswith(COMPUTED)
    }


def ctranspath_encoder(pretrained: str, checkpoint: str = "") -> tuple[nn.Module, bool]:
    """CTransPath as a frozen encoder that gives (B, 768), and whether it has its pretrained weights.

    Parameters
    ----------
    pretrained
        ``no``; ``required``; or ``when_reachable``: random weights, with a warning, where none can be had.
    checkpoint
        A local ``ctranspath.pth``, which must then be there; ``""`` for the one on the Hugging Face hub, of a gated
        dataset, with the token in ``HF_TOKEN``.

    Raises
    ------
    InputError
        If a file of weights is not there or does not fit.
    SetupError
        If pretrained weights are required and cannot be had.
    """
    backbone, loaded = _with_weights((), pretrained, checkpoint)
    backbone.pretrained_cfg = {
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "input_size": (3, 224, 224),
        "fixed_input_size": True,
    }
    return backbone, loaded


def _with_weights(shape: tuple, pretrained: str, checkpoint: str) -> tuple[nn.Module, bool]:
    """A backbone of the arguments ``shape``, and whether its weights are a file's, local or published."""
    build = partial(ctranspath_backbone, *shape)
    create = partial(from_hub, build, REPO, file=FILE, repo_type="dataset")
    return pretrained_or_random("CTransPath", pretrained, create, checkpoint, f"datasets/{REPO}")


# The method


class CTransPath(Method):
    """CTransPath and a linear layer, both trained, under the mean squared error.

    What CMRCNet's comparison did with CTransPath is not told; its text speaks of fine-tuning, and a linear layer on the
    features is how the encoder's own repository fine-tunes. Frozen features under a ridge regression are the other
    reading: :func:`ctranspath_encoder`. As spotwise has it:

    * The layer's bias starts at the mean of the training expression, so that no step is spent on finding it; its
      weights start at random as in any fine-tuning, since the features are pretrained and worth passing on at once
      (ST-Net's start at 0 is ST-Net's).
    * Images are those of every method, 0.5 um/px where they come from HEST; the weights are meant for 1 um/px.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    options
        Hyper-parameters; kept as ``options``.

    Attributes
    ----------
    pretrained_loaded : bool or None
        Whether the backbone started from published weights; None for sizes without any.

    Raises
    ------
    InputError
        If a file of weights is not there or does not fit.
    SetupError
        If published weights are required and cannot be had.
    """

    def __init__(self, n_genes: int, options: CTransPathOptions):
        super().__init__()
        self.options = options
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

    @torch.no_grad()
    def begin(self, expression: Tensor) -> None:
        """Centre the predictions at the mean of the training expression (N, G)."""
        self.head.bias.copy_(expression.mean(dim=0))

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean squared error over spots and genes.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            Not used: nothing is masked.

        Returns
        -------
        dict
            ``total``, a differentiable scalar.
        """
        return {"total": functional.mse_loss(at_least_float32(self.predict(batch)), batch.expression)}

    def predict(self, batch: Batch) -> Tensor:
        """Expression (B, G) from the images."""
        return self.head(self.image_encoder(batch.images))
