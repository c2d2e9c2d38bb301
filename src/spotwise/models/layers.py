"""Layers that several methods share.

Shapes: B spots, T tokens, D channels, G genes.
"""

from __future__ import annotations

from typing import Literal

from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

MLP_RATIO = 4
ACTIVATIONS = {"elu": nn.ELU, "selu": nn.SELU}


def vision_transformer(
    image_size: int, patch_size: int, dim: int, depth: int, heads: int, pool: Literal["", "avg"] = ""
) -> VisionTransformer:
    """Create CMRCNet's image encoder, timm's ViT without a head, to be trained from scratch.

    It is initialised as in the released code.

    It maps images (B, 3, image_size, image_size) to (B, T, dim) after the final norm, the class token first, or with
    ``pool="avg"`` to the mean of all tokens (B, dim). 224 and 32 pixels give the 50 tokens of the paper.
    """
    encoder = VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=MLP_RATIO,
        num_classes=0,
        global_pool=pool,
        pool_include_prefix=True,
        fc_norm=False,
        weight_init="skip",
    )
    _initialise(encoder)
    return encoder


def _initialise(encoder: VisionTransformer) -> None:
    """Draw the initial weights of the released code.

    timm's differ: 0.02 for linear layers, and fan-in for convolutions.
    """
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)
    nn.init.trunc_normal_(encoder.cls_token, std=0.02)
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            nn.init.zeros_(module.bias)


class ProjectionHead(nn.Module):
    """BLEEP's projection into the shared space.

    Linear, GELU, linear, dropout, residual, layer norm.
    """

    def __init__(self, features: int, dim: int, dropout: float):
        super().__init__()
        self.project = nn.Linear(features, dim)
        self.refine = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, features) to (B, dim)."""
        projected = self.project(x)
        return self.norm(projected + self.dropout(self.refine(functional.gelu(projected))))


class GeneTokens(nn.Module):
    """Tokens of the expression, by one block of a self-normalising network (Klambauer et al., 2017).

    Its activation is ELU (released code) or SELU (paper), its dropout alpha dropout.
    """

    def __init__(self, n_genes: int, tokens: int, dim: int, activation: Literal["elu", "selu"], dropout: float):
        super().__init__()
        self.linear = nn.Linear(n_genes, tokens * dim)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.AlphaDropout(dropout)
        self.shape = (tokens, dim)

    def forward(self, expression: Tensor) -> Tensor:
        """Map (B, G) to (B, tokens, dim)."""
        return self.dropout(self.activation(self.linear(expression))).unflatten(1, self.shape)


class ResidualCrossAttention(nn.Module):
    """Attention of tokens x to tokens y that adds a value of x itself (CMRCNet, Fig. 8; from MCFN).

    Queries and keys pass a ReLU, and the values come from these, not from x and y (released code). There is no output
    projection. Dropout is that of queries and keys, after the ReLU.
    """

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.query = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout))
        self.key = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout))
        self.own_value = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Attend from tokens (B, T, D) to tokens (B, S, D), and return (B, T, D)."""
        query, key = self.query(x), self.key(y)
        attended = functional.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(self.value(key))
        )
        return self.own_value(query) + attended.transpose(1, 2).flatten(2)


class FusionBlock(nn.Module):
    """Cross-modal fusion module of CMRCNet.

    A transformer block on the masked tokens, then residual cross-attention. The masked tokens are the image's, except
    where the expression is reconstructed (paper, Table 5). ``dropout`` follows the projection of the self-attention and
    both layers of the MLP, ``cross_dropout`` is that of the cross-attention.
    """

    def __init__(self, dim: int, heads: int, dropout: float, cross_dropout: float):
        super().__init__()
        # timm's own layer norm has eps 1e-6, the released fusion module torch's 1e-5.
        self.image_block = Block(
            dim, heads, mlp_ratio=MLP_RATIO, qkv_bias=True, proj_drop=dropout, norm_layer=nn.LayerNorm
        )
        self.cross_attention = ResidualCrossAttention(dim, heads, cross_dropout)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Fuse masked tokens (B, T, D) with the other modality's tokens (B, S, D) into (B, T, D)."""
        x = self.image_block(x)
        return x + self.cross_attention(x, guide)
