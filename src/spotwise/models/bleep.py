"""BLEEP: bi-modal contrastive learning of images and expression (Xie et al., NeurIPS 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spotwise.errors import InputError
from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.bleep_options import VIT, BLEEPOptions
from spotwise.models.encoders import timm_config, timm_encoder
from spotwise.models.layers import ProjectionHead, vision_transformer
from spotwise.models.losses import combine, monitored, soft_contrastive


class BLEEP(Method):
    """Image encoder and two projection heads under BLEEP's contrastive loss."""

    def __init__(self, n_genes: int, options: BLEEPOptions):
        super().__init__(options)
        self.image_encoder, self.pretrained_loaded = _image_encoder(options)
        features = self.image_encoder.head_hidden_size  # timm: width after pooling
        self.image_projection = ProjectionHead(features, options.embedding_dim, options.projection_dropout)
        self.gene_projection = ProjectionHead(n_genes, options.embedding_dim, options.projection_dropout)

    def embed_images(self, images: Tensor) -> Tensor:
        return self.image_projection(self.image_encoder(images))

    def embed_expression(self, expression: Tensor) -> Tensor:
        return self.gene_projection(expression)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the mean of both cross-entropies over the batch."""
        image, gene = self.embed_images(batch.images), self.embed_expression(batch.expression)
        spot_ce, image_ce = soft_contrastive(
            image, gene, temperature=self.options.temperature, target_temperature=self.options.target_temperature
        )
        return {"total": combine(spot_ce, image_ce).mean(), **monitored(image, gene, spot_ce, image_ce)}


def _image_encoder(options: BLEEPOptions) -> tuple[nn.Module, bool | None]:
    """Create the encoder of pooled features (B, F), and return whether it has pretrained weights."""
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
    published = timm_config(options.encoder)
    if published is None:
        raise InputError("BLEEP", "encoder", repr(options.encoder), f"{VIT!r} or the name of a timm model")
    side = published.input_size[-1]
    if published.fixed_input_size and side != options.image_size:
        expected = f"{side}, the only size that {options.encoder} accepts"
        raise InputError("BLEEP", "image_size", options.image_size, expected)
    return timm_encoder(options.encoder, options.pretrained)
