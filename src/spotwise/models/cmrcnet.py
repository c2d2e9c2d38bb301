"""CMRCNet: contrastive learning with cross-modal reconstruction (Liu et al., 2025, arXiv 2506.08854).

The paper and the code that its authors released describe two different networks and losses. Both are here, as the two
``reading``s, and each single difference has a switch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from spotwise.losses import at_least_float32, balance, combine, monitored, reconstruction_error, soft_contrastive
from spotwise.models.batch import Batch
from spotwise.models.layers import (
    FusionBlock,
    GeneTokens,
    ProjectionHead,
    check_choices,
    check_divisors,
    check_fractions,
    check_sizes,
    vision_transformer,
)

# "two concatenated cross-modal fusion modules" (paper); the released code applies one module twice
FUSION_PASSES = 2

_READINGS = {
    "released": {
        "encoder_depth": 8,
        "encoder_heads": 8,
        "activation": "elu",
        "fusion": "tied",
        "combination": "average",
        "log": "per_sample",
    },
    "paper": {
        "encoder_depth": 12,
        "encoder_heads": 12,
        "activation": "selu",
        "fusion": "untied",
        "combination": "sum",
        "log": "of_mean",
    },
}
_AS_READING = ("as_reading", 0)


@dataclass(frozen=True)
class CMRCNetOptions:
    """Hyper-parameters of CMRCNet.

    ``as_reading`` and 0 mean: as the reading has it.

    Raises
    ------
    InputError
        For an unknown choice, a number outside its range, or heads that do not divide their channels.
    """

    # What the authors' code does, or what their paper says.
    reading: Literal["released", "paper"] = "released"

    # Blocks and heads of the image encoder. Released: 8 and 8; paper ("ViT-B"): 12 and 12.
    encoder_depth: int = 0
    encoder_heads: int = 0
    # Activation that makes the gene tokens. Released: ELU; paper: SELU.
    activation: Literal["as_reading", "elu", "selu"] = "as_reading"
    # Whether both fusion passes share their weights. Released: tied; paper: untied.
    fusion: Literal["as_reading", "tied", "untied"] = "as_reading"
    # Loss_c as average (released) or sum (paper) of its two cross-entropies.
    combination: Literal["as_reading", "average", "sum"] = "as_reading"
    # log(1 + Loss_c) for each sample (released), or of the mean over samples (paper).
    log: Literal["as_reading", "per_sample", "of_mean"] = "as_reading"
    # Which cross-entropy meets the targets and which their transpose: as in the code, or as in the paper's equation.
    # The code's way in both readings, as it is BLEEP's and the paper says to follow BLEEP here.
    pairing: Literal["released", "paper"] = "released"
    # Whether Loss_r may move its target, the image embedding (neither reading detaches it).
    detach_target: bool = False

    # Fraction of the latent image values set to zero (the released code's `mask_prob` is the fraction kept).
    masked_fraction: float = 0.5
    # Divides the logits and multiplies the exponent of the targets.
    temperature: float = 1.0

    # Side of an image and of a ViT patch, in pixels: 224 and 32 give 49 tokens and the class token.
    image_size: int = 224
    patch_size: int = 32
    # Channels of the image encoder.
    encoder_dim: int = 768
    # Channels of the shared space, of the latent image and of the gene tokens.
    embedding_dim: int = 256
    # Tokens that the expression is split into; the SNN has gene_tokens x embedding_dim channels.
    gene_tokens: int = 8
    # Heads of the first cross-attention, and of the attentions in the fusion modules.
    attention_heads: int = 4
    fusion_heads: int = 8

    # Dropout of both projection heads, before the residual.
    projection_dropout: float = 0.1
    # Alpha dropout of the gene tokens.
    token_dropout: float = 0.25
    # Dropout of self-attention and MLP in the fusion modules.
    fusion_dropout: float = 0.1
    # Dropout of queries and keys in the residual cross-attention.
    cross_dropout: float = 0.25

    def __post_init__(self):
        check_choices("CMRCNet", self)
        heads = self.encoder_heads or _READINGS[self.reading]["encoder_heads"]
        check_divisors(
            "CMRCNet",
            encoder_heads=(heads, "encoder_dim", self.encoder_dim),
            patch_size=(self.patch_size, "image_size", self.image_size),
            attention_heads=(self.attention_heads, "embedding_dim", self.embedding_dim),
            fusion_heads=(self.fusion_heads, "embedding_dim", self.embedding_dim),
        )
        check_sizes(
            "CMRCNet",
            encoder_depth=self.encoder_depth or _READINGS[self.reading]["encoder_depth"],
            gene_tokens=self.gene_tokens,
            temperature=self.temperature,
        )
        check_fractions(
            "CMRCNet",
            masked_fraction=self.masked_fraction,
            projection_dropout=self.projection_dropout,
            token_dropout=self.token_dropout,
            fusion_dropout=self.fusion_dropout,
            cross_dropout=self.cross_dropout,
        )

    def resolved(self) -> CMRCNetOptions:
        """The same options with nothing left to the reading."""
        said = {name: value for name in _READINGS[self.reading] if (value := getattr(self, name)) not in _AS_READING}
        return replace(self, **{**_READINGS[self.reading], **said})


class Outputs(NamedTuple):
    """What CMRCNet makes of a batch.

    Attributes
    ----------
    image, gene
        F'_img and F_gene, the embeddings of both modalities, (B, D) each.
    reconstructed
        F_r, the image embedding as read from the masked image and the expression, (B, D).
    """

    image: Tensor
    gene: Tensor
    reconstructed: Tensor


class CMRCNet(nn.Module):
    """The network of the paper's Fig. 1, with its losses.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    options
        Hyper-parameters; kept, resolved, as ``options``.
    """

    def __init__(self, n_genes: int, options: CMRCNetOptions = CMRCNetOptions()):
        super().__init__()
        self.options = options = options.resolved()
        dim = options.embedding_dim
        self.image_encoder = vision_transformer(
            options.image_size, options.patch_size, options.encoder_dim, options.encoder_depth, options.encoder_heads
        )
        self.image_projection = ProjectionHead(options.encoder_dim, dim, options.projection_dropout)
        self.gene_projection = ProjectionHead(n_genes, dim, options.projection_dropout)
        self.image_latent = nn.Linear(options.encoder_dim, dim)
        self.gene_tokens = GeneTokens(n_genes, options.gene_tokens, dim, options.activation, options.token_dropout)
        self.first_attention = nn.MultiheadAttention(dim, options.attention_heads, batch_first=True)
        self.fusion = nn.ModuleList(
            FusionBlock(dim, options.fusion_heads, options.fusion_dropout, options.cross_dropout)
            for _ in range(1 if options.fusion == "tied" else FUSION_PASSES)
        )

    def embed_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> embeddings (B, D), not normalised."""
        return self._embed_tokens(self.image_encoder(images))

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Expression (B, G) -> embeddings (B, D), not normalised."""
        return self.gene_projection(expression)

    def forward(self, batch: Batch, mask_generator: torch.Generator | None = None) -> Outputs:
        """Embed both modalities, and reconstruct the image embedding from the masked image and the expression.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            Draws the mask, on the device of the batch; torch's own generator of that device where none is given. The
            mask is drawn in evaluation mode too (released code).
        """
        tokens = self.image_encoder(batch.images)  # (B, 50, 768)
        return Outputs(
            self._embed_tokens(tokens),
            self.embed_expression(batch.expression),
            self._reconstruct(tokens, batch.expression, mask_generator),
        )

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss_total = log(1 + Loss_c) + log(1 + Loss_r), and what to watch during training.

        Parameters
        ----------
        batch, mask_generator
            As for :meth:`forward`.

        Returns
        -------
        dict
            Scalars: ``total``, differentiable; detached, ``contrastive`` (see :func:`spotwise.losses.monitored`),
            ``reconstruction`` (the plain mean squared error), ``image_spread`` and ``gene_spread``.
        """
        options = self.options
        outputs = self(batch, mask_generator)
        spot_ce, image_ce = soft_contrastive(
            outputs.image, outputs.gene, temperature=options.temperature, pairing=options.pairing
        )
        contrastive = combine(spot_ce, image_ce, options.combination)
        target = outputs.image.detach() if options.detach_target else outputs.image
        reconstruction = reconstruction_error(outputs.reconstructed, target)
        return {
            "total": balance(contrastive, options.log) + balance(reconstruction),
            "reconstruction": reconstruction.detach(),
            **monitored(outputs.image, outputs.gene, spot_ce, image_ce),
        }

    def _embed_tokens(self, tokens: Tensor) -> Tensor:
        return self.image_projection(tokens.mean(dim=1))  # the class token counts as one of the 50

    def _reconstruct(self, tokens: Tensor, expression: Tensor, mask_generator: torch.Generator | None) -> Tensor:
        genes = self.gene_tokens(expression)  # (B, 8, 256)
        latent = self._mask(self.image_latent(tokens), mask_generator)  # (B, 50, 256)
        latent, _ = self.first_attention(latent, genes, genes, need_weights=False)
        for step in range(FUSION_PASSES):
            latent = self.fusion[step % len(self.fusion)](latent, genes)
        return at_least_float32(latent).mean(dim=1)

    def _mask(self, latent: Tensor, generator: torch.Generator | None) -> Tensor:
        """Set single values to zero, each by a draw of its own, without rescaling the others (released code)."""
        draws = torch.rand(latent.shape, generator=generator, device=latent.device)
        return latent.masked_fill(draws >= 1 - self.options.masked_fraction, 0)
