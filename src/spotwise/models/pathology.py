"""Published encoders of pathology images, built from timm's parts so that their weights load entry by entry.

Sizes, pooling and normalisation are those of the model cards on the Hugging Face hub. TRIDENT (mahmoodlab/TRIDENT,
``patch_encoder_models/load.py``) loads the same weights into networks of these sizes. CONCH follows its repository
(mahmoodlab/CONCH, ``open_clip_custom``), GenBio-PathFM the inference code that its authors gave to TRIDENT
(``model_zoo/genbio_pathfm``). Lunit's normalisation is that of its release (lunit-io/benchmark-ssl-pathology). Most
weights are gated, and all are under licences of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from timm.layers import SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spotwise.models.encoder_names import REPOSITORIES, is_named
from spotwise.models.images import IMAGENET_MEAN, IMAGENET_STD, fixed_input
from spotwise.models.pretrained_weights import FILE

BIOPTIMUS_MEAN, BIOPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

GENBIO_MEAN, GENBIO_STD = (0.697, 0.575, 0.728), (0.188, 0.240, 0.187)
LUNIT_MEAN, LUNIT_STD = (0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464)

LAYER_SCALE = {"init_values": 1e-5}
SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
VIT_HUGE = (
    {"patch_size": 14, "embed_dim": 1280, "depth": 32, "num_heads": 16, "mlp_ratio": 5.3375} | LAYER_SCALE | SWIGLU
)
VIT_BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12}
VIT_SMALL = {"embed_dim": 384, "depth": 12, "num_heads": 6}
VIT_GIANT = {"embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334} | LAYER_SCALE | SWIGLU


class ClassTokenAndPatchMean(VisionTransformer):
    """Vision transformer with Virchow's pooling, the class token and the mean of the patch tokens."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.num_features = self.head_hidden_size = 2 * self.embed_dim

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool (B, T, D) to (B, 2 D)."""
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens :].mean(dim=1)], dim=1)


class AttentionPool(nn.Module):
    """Attention of one learned query to all tokens (mahmoodlab/CONCH, ``AttentionalPooler``)."""

    def __init__(self, dim: int, tokens_dim: int, heads: int = 8):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, dim))
        self.attn = nn.MultiheadAttention(dim, heads, kdim=tokens_dim, vdim=tokens_dim, batch_first=True)
        self.ln_q = nn.LayerNorm(dim)
        self.ln_k = nn.LayerNorm(tokens_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool (B, T, tokens_dim) to (B, dim)."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, keys, keys, need_weights=False)[0][:, 0]


class CONCHVision(nn.Module):
    """CONCH's image tower up to the features that its authors use for probing.

    The projection to the text is left out. Modules are named as in CONCH's checkpoint, below its ``visual``.
    """

    def __init__(self, dim: int = 512, **sizes):
        super().__init__()
        self.trunk = VisionTransformer(**sizes)
        self.attn_pool_contrast = AttentionPool(dim, self.trunk.embed_dim)
        self.ln_contrast = nn.LayerNorm(dim)
        self.num_features = dim

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, dim)."""
        return self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(images)))

    def from_published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Select the entries of CONCH's checkpoint that belong to this module."""
        mine = tuple(f"visual.{name}." for name, _ in self.named_children())
        return {name.removeprefix("visual."): value for name, value in weights.items() if name.startswith(mine)}


class GenBioPathFM(Eva):
    """GenBio-PathFM, a transformer of DINOv3's design that sees one colour at a time.

    The features are the class tokens of red, green and blue. The published code computes the rotary embedding in
    bfloat16, this one in float32.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "storage_tokens": "reg_token",
        ".ls1.gamma": ".gamma_1",
        ".ls2.gamma": ".gamma_2",
        ".mlp.w1.": ".mlp.fc1_g.",
        ".mlp.w2.": ".mlp.fc1_x.",
        ".mlp.w3.": ".mlp.fc2.",
    }

    def __init__(self, **sizes):
        rotary = {"use_abs_pos_emb": False, "use_rot_pos_emb": True, "rope_type": "dinov3", "rope_rotate_half": True}
        rotary["rope_temperature"] = 100.0
        gated = {"swiglu_mlp": True, "swiglu_align_to": 64, "mlp_ratio": 8 / 3}
        super().__init__(in_chans=1, global_pool="token", qkv_bias=False, **rotary, **gated, **sizes)
        self.num_features = self.head_hidden_size = 3 * self.embed_dim

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3 D)."""
        return super().forward(x.flatten(0, 1)[:, None]).reshape(len(x), -1)

    def from_published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published entries to timm's, without the rotary periods, which are computed."""
        renamed = {}
        for name, value in weights.items():
            for theirs, ours in self.RENAMED.items():
                name = name.replace(theirs, ours)
            if name != "rope_embed.periods":
                renamed[name] = value
        return renamed


@dataclass(frozen=True)
class Published:
    """A published encoder.

    Attributes
    ----------
    repository
        Repository on the Hugging Face hub.
    sizes
        Arguments of ``network`` beside ``img_size``.
    network
        Class; timm's own pools by the class token.
    px
        Side of the images in pixels.
    mean, std
        Mean and standard deviation that normalise RGB values in [0, 1].
    file
        The weights in the repository.
    """

    repository: str
    sizes: Mapping[str, object]
    network: type[nn.Module] = VisionTransformer
    px: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    file: str = FILE

    def build(self) -> nn.Module:
        """Create the encoder with random weights, (B, 3, px, px) to (B, D), and ``pretrained_cfg`` as in timm."""
        module = self.network(img_size=self.px, num_classes=0, **self.sizes)
        module.pretrained_cfg = fixed_input(self.px, self.mean, self.std)
        return module


_H_OPTIMUS = {
    "sizes": VIT_GIANT | {"patch_size": 14, "reg_tokens": 4, "no_embed_class": True},
    "mean": BIOPTIMUS_MEAN,
    "std": BIOPTIMUS_STD,
}

PATHOLOGY: Mapping[str, Published] = {
    "UNI": Published(
        REPOSITORIES["UNI"],
        {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16} | LAYER_SCALE,
    ),
    "UNI2-h": Published(
        REPOSITORIES["UNI2-h"],
        VIT_GIANT | {"patch_size": 14, "depth": 24, "reg_tokens": 8, "no_embed_class": True},
    ),
    "Virchow": Published(REPOSITORIES["Virchow"], VIT_HUGE, ClassTokenAndPatchMean),
    "Virchow2": Published(REPOSITORIES["Virchow2"], VIT_HUGE | {"reg_tokens": 4}, ClassTokenAndPatchMean),
    "H-optimus-0": Published(REPOSITORIES["H-optimus-0"], **_H_OPTIMUS),
    "H-optimus-1": Published(REPOSITORIES["H-optimus-1"], **_H_OPTIMUS),
    # Its card names the layers and 261 tokens; scales and places as in DINOv2, which a file must fit to be loaded
    "H0-mini": Published(
        REPOSITORIES["H0-mini"],
        VIT_BASE
        | {"patch_size": 14, "mlp_ratio": 5.33334, "reg_tokens": 4, "no_embed_class": True}
        | LAYER_SCALE
        | SWIGLU,
        ClassTokenAndPatchMean,
        mean=BIOPTIMUS_MEAN,
        std=BIOPTIMUS_STD,
    ),
    # Its card crops the central 224 of 256 px at 0.5 um/px, the field of a patch
    "Prov-GigaPath": Published(REPOSITORIES["Prov-GigaPath"], VIT_GIANT | {"patch_size": 16}),
    "CONCH": Published(
        REPOSITORIES["CONCH"],
        VIT_BASE | {"patch_size": 16},
        CONCHVision,
        px=448,
        mean=CLIP_MEAN,
        std=CLIP_STD,
    ),
    "GenBio-PathFM": Published(
        REPOSITORIES["GenBio-PathFM"],
        {"patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "num_reg_tokens": 4} | LAYER_SCALE,
        GenBioPathFM,
        mean=GENBIO_MEAN,
        std=GENBIO_STD,
        file="model.pth",
    ),
    "Lunit-ViT-S8": Published(
        REPOSITORIES["Lunit-ViT-S8"],
        VIT_SMALL | {"patch_size": 8},
        mean=LUNIT_MEAN,
        std=LUNIT_STD,
        file="model.safetensors",
    ),
}


def published(name: str) -> Published | None:
    """Return the encoder of a short name or ``hf-hub:<its repository>``, in upper or lower case; None for others."""
    for short, encoder in PATHOLOGY.items():
        if is_named(name, short, encoder.repository):
            return encoder
    return None
