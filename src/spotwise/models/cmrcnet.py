"""CMRCNet: contrastive learning with cross-modal reconstruction (Liu et al., 2025, arXiv 2506.08854).

The paper and its authors' released code describe different networks and losses. Both are implemented, as the two values
of the option ``reading``. Each difference, and each ablation of the paper's Table 5, has an option of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.cmrcnet_options import CMRCNetOptions
from spotwise.models.layers import FusionBlock, GeneTokens, ProjectionHead, vision_transformer
from spotwise.models.losses import at_least_float32, balance, combine, monitored, reconstruction_error, soft_contrastive

# "two concatenated cross-modal fusion modules" (paper); the released code applies one module twice
FUSION_PASSES = 2


class Outputs(NamedTuple):
    """Embeddings F'_img and F_gene of a batch, and F_r, (B, D) each.

    F_r is one of the two, reconstructed from its masked tokens and the other modality's; ``None`` without
    reconstruction.
    """

    image: Tensor
    gene: Tensor
    reconstructed: Tensor | None


class CMRCNet(Method):
    """The network of the paper's Fig. 1, with its losses.

    Where the expression is reconstructed, the modalities exchange roles in the reconstruction branch: masked gene
    tokens are its queries, image tokens its keys and values, and the gene embedding is the target. This is our
    interpretation, as the paper names the variant in Table 5 without describing it, and the authors' code lacks it.

    Attributes
    ----------
    options
        Hyper-parameters, with nothing left to ``reading``.
    """

    def __init__(self, n_genes: int, options: CMRCNetOptions):
        options = options.resolved()
        super().__init__(options)
        dim = options.embedding_dim
        self.image_encoder = vision_transformer(
            options.image_size, options.patch_size, options.encoder_dim, options.encoder_depth, options.encoder_heads
        )
        self.image_projection = ProjectionHead(options.encoder_dim, dim, options.projection_dropout)
        self.gene_projection = ProjectionHead(n_genes, dim, options.projection_dropout)
        if options.reconstruction != "none":
            self.image_latent = nn.Linear(options.encoder_dim, dim)
            self.gene_tokens = GeneTokens(n_genes, options.gene_tokens, dim, options.activation, options.token_dropout)
            self.first_attention = nn.MultiheadAttention(dim, options.attention_heads, batch_first=True)
            self.fusion = nn.ModuleList(
                FusionBlock(dim, options.fusion_heads, options.fusion_dropout, options.cross_dropout)
                for _ in range(1 if options.fusion == "tied" else FUSION_PASSES)
            )

    def training_only(self) -> list[nn.Module]:
        """Return the reconstruction branch."""
        if self.options.reconstruction == "none":
            return []
        return [self.image_latent, self.gene_tokens, self.first_attention, self.fusion]

    def embed_images(self, images: Tensor) -> Tensor:
        return self._embed_tokens(self.image_encoder(images))

    def embed_expression(self, expression: Tensor) -> Tensor:
        return self.gene_projection(expression)

    def forward(self, batch: Batch, mask_generator: torch.Generator | None = None) -> Outputs:
        """Embed both modalities and reconstruct the embedding of one.

        Masks are drawn in evaluation mode, too (released code), with ``mask_generator`` or torch's global one.
        """
        tokens = self.image_encoder(batch.images)  # (B, 50, 768)
        image, gene = self._embed_tokens(tokens), self.embed_expression(batch.expression)
        if self.options.reconstruction == "none":
            return Outputs(image, gene, None)
        return Outputs(image, gene, self._reconstruct(tokens, batch.expression, mask_generator))

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute Loss_total, log(1 + Loss_c) + log(1 + Loss_r).

        Without a reconstruction, it is the first term alone. Loss_r is monitored as ``reconstruction``.
        """
        options = self.options
        outputs = self(batch, mask_generator)
        spot_ce, image_ce = soft_contrastive(
            outputs.image, outputs.gene, temperature=options.temperature, pairing=options.pairing
        )
        total = balance(combine(spot_ce, image_ce, options.combination), options.log)
        watched = monitored(outputs.image, outputs.gene, spot_ce, image_ce)
        if outputs.reconstructed is None:
            return {"total": total, **watched}
        target = outputs.image if options.reconstruction == "image" else outputs.gene
        if options.detach_target:
            target = target.detach()
        reconstruction = reconstruction_error(outputs.reconstructed, target, how=options.reconstruction_loss)
        return {"total": total + balance(reconstruction), "reconstruction": reconstruction.detach(), **watched}

    def _embed_tokens(self, tokens: Tensor) -> Tensor:
        return self.image_projection(tokens.mean(dim=1))  # over all 50 tokens, class token included

    def _reconstruct(self, tokens: Tensor, expression: Tensor, mask_generator: torch.Generator | None) -> Tensor:
        genes = self.gene_tokens(expression)  # (B, 8, 256)
        latent = self.image_latent(tokens)  # (B, 50, 256)
        x, guide = (latent, genes) if self.options.reconstruction == "image" else (genes, latent)
        x, _ = self.first_attention(self._mask(x, mask_generator), guide, guide, need_weights=False)
        for step in range(FUSION_PASSES):
            x = self.fusion[step % len(self.fusion)](x, guide)
        return at_least_float32(x).mean(dim=1)

    def _mask(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Set random values or whole tokens of (B, T, D) to zero, without rescaling the others."""
        shape = x.shape if self.options.mask_granularity == "element" else (*x.shape[:2], 1)
        draws = torch.rand(shape, generator=generator, device=x.device)
        return x.masked_fill(draws >= 1 - self.options.masked_fraction, 0)
