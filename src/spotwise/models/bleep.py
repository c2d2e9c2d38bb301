"""BLEEP: bi-modal contrastive learning of images and expression (Xie et al., NeurIPS 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from spotwise.errors import InputError
from spotwise.models.base import Method, Options
from spotwise.models.batch import Batch, Context
from spotwise.models.encoders import timm_encoder
from spotwise.models.layers import (
    ProjectionHead,
    check_choices,
    check_divisors,
    check_fractions,
    check_sizes,
    vision_transformer,
)
from spotwise.models.losses import combine, monitored, soft_contrastive

VIT = "vit"


@dataclass(frozen=True)
class BLEEPOptions(Options):
    """Hyper-parameters of BLEEP.

    Raises
    ------
    InputError
        For an encoder that timm does not have, or not for this size of image, an unknown choice, a number outside its
        range, or heads that do not divide their channels.
    """

    # Image encoder: the name of a timm model (BLEEP: resnet50), or `vit` for CMRCNet's encoder, trained from scratch.
    encoder: str = "resnet50"
    # Weights that timm's encoder starts from: random, pretrained if they can be had, or pretrained or nothing.
    pretrained: Literal["no", "when_reachable", "required"] = "when_reachable"

    # Side of an image in pixels; patches of another size are resized. Many of timm's take one size only.
    image_size: int = 224
    # Of the encoder `vit`: side of a patch in pixels, channels, blocks, attention heads.
    patch_size: int = 32
    encoder_dim: int = 768
    encoder_depth: int = 8
    encoder_heads: int = 8

    # Channels of the shared space.
    embedding_dim: int = 256
    # Dropout of both projection heads, before the residual.
    projection_dropout: float = 0.1
    # Divides the logits.
    temperature: float = 1.0
    # What the temperature does in the targets: BLEEP's ResNet50 class divides by it, its ViT class multiplies.
    target_temperature: Literal["divide", "multiply"] = "divide"

    @property
    def context(self) -> Context:
        """Images of ``image_size`` pixels."""
        return Context(image_px=self.image_size)

    def __post_init__(self):
        check_choices("BLEEP", self)
        check_sizes("BLEEP", image_size=self.image_size, embedding_dim=self.embedding_dim, temperature=self.temperature)
        check_fractions("BLEEP", projection_dropout=self.projection_dropout)
        if self.encoder != VIT:
            self._check_timm_encoder()
            return
        if self.pretrained == "required":
            raise InputError("BLEEP", "pretrained", "'required'", f"'no': no weights were published for {VIT!r}")
        check_sizes("BLEEP", encoder_depth=self.encoder_depth)
        check_divisors(
            "BLEEP",
            encoder_heads=(self.encoder_heads, "encoder_dim", self.encoder_dim),
            patch_size=(self.patch_size, "image_size", self.image_size),
        )

    def _check_timm_encoder(self) -> None:
        try:
            published = timm.get_pretrained_cfg(self.encoder, allow_unregistered=False)
        except RuntimeError:  # timm's answer to an unknown name, and to an unknown tag of a known one
            expected = f"{VIT!r} or the name of a timm model"
            raise InputError("BLEEP", "encoder", repr(self.encoder), expected) from None
        side = published.input_size[-1]
        if published.fixed_input_size and side != self.image_size:
            raise InputError("BLEEP", "image_size", self.image_size, f"{side}, the only size that {self.encoder} takes")


class BLEEP(Method):
    """Image encoder and two projection heads under BLEEP's contrastive loss.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    options
        Hyper-parameters; kept as ``options``.

    Attributes
    ----------
    pretrained_loaded : bool or None
        Whether the encoder started from pretrained weights; None for ``vit``, which has none.

    Raises
    ------
    SetupError
        If pretrained weights are required and cannot be had.
    """

    def __init__(self, n_genes: int, options: BLEEPOptions = BLEEPOptions()):
        super().__init__()
        self.options = options
        self.image_encoder, self.pretrained_loaded = _image_encoder(options)
        features = self.image_encoder.head_hidden_size  # timm: width after pooling
        self.image_projection = ProjectionHead(features, options.embedding_dim, options.projection_dropout)
        self.gene_projection = ProjectionHead(n_genes, options.embedding_dim, options.projection_dropout)

    def embed_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> embeddings (B, D), not normalised."""
        return self.image_projection(self.image_encoder(images))

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Expression (B, G) -> embeddings (B, D), not normalised."""
        return self.gene_projection(expression)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """BLEEP's loss: the mean of both cross-entropies over the batch.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            Not used, as BLEEP masks nothing; every retrieval method is asked for its loss in the same way.

        Returns
        -------
        dict
            Scalars: ``total``, differentiable; detached, those of :func:`spotwise.models.losses.monitored`.
        """
        image, gene = self.embed_images(batch.images), self.embed_expression(batch.expression)
        spot_ce, image_ce = soft_contrastive(
            image, gene, temperature=self.options.temperature, target_temperature=self.options.target_temperature
        )
        return {"total": combine(spot_ce, image_ce).mean(), **monitored(image, gene, spot_ce, image_ce)}


def _image_encoder(options: BLEEPOptions) -> tuple[nn.Module, bool | None]:
    """The encoder, giving pooled features (B, F), and whether it has pretrained weights."""
    if options.encoder == VIT:
        encoder = vision_transformer(
            options.image_size,
            options.patch_size,
            options.encoder_dim,
            options.encoder_depth,
            options.encoder_heads,
            pool="avg",
        )
        return encoder, None
    return timm_encoder(options.encoder, options.pretrained)
