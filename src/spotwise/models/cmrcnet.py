"""CMRCNet: contrastive learning with cross-modal reconstruction (Liu et al., 2025, arXiv 2506.08854).

The paper and the code that its authors released describe two different networks and losses. Both are here, as the two
``reading``s, and each single difference has a switch of its own. So have the ablations of the paper's Table 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from spotwise.models.base import Method, Options
from spotwise.models.batch import Batch, Context
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
from spotwise.models.losses import at_least_float32, balance, combine, monitored, reconstruction_error, soft_contrastive

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
class CMRCNetOptions(Options):
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

    # Which embedding is reconstructed, from masked tokens of its own modality and the other modality's tokens: the
    # image's (both readings), the expression's, or none, which leaves the contrastive loss alone (Table 5).
    reconstruction: Literal["image", "expression", "none"] = "image"
    # Loss_r as mean squared error (both readings) or as 1 - cosine (Table 5).
    reconstruction_loss: Literal["mse", "cosine"] = "mse"
    # Whether Loss_r treats the embedding to reconstruct as a constant (in neither reading).
    detach_target: bool = False
    # Fraction of the tokens' values set to zero (the released code's `mask_prob` is the fraction kept).
    masked_fraction: float = 0.5
    # Whether values are masked one by one (both readings) or by whole tokens.
    mask_granularity: Literal["element", "token"] = "element"

    # Divides the logits of Loss_c and multiplies the exponent of its targets.
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

    @property
    def context(self) -> Context:
        """Images of ``image_size`` pixels."""
        return Context(image_px=self.image_size)

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
        F_r, one of the two as read from its masked modality and the other one, (B, D); ``None`` without reconstruction.
    """

    image: Tensor
    gene: Tensor
    reconstructed: Tensor | None


class CMRCNet(Method):
    """The network of the paper's Fig. 1, with its losses.

    Where the expression is reconstructed, the modalities exchange places in the reconstruction branch: masked gene
    tokens are its queries, image tokens its keys and values, and the gene embedding is the target. This is our reading:
    the paper names the variant in Table 5 without describing it, and its authors' code does not have it.

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
        if options.reconstruction != "none":
            self.image_latent = nn.Linear(options.encoder_dim, dim)
            self.gene_tokens = GeneTokens(n_genes, options.gene_tokens, dim, options.activation, options.token_dropout)
            self.first_attention = nn.MultiheadAttention(dim, options.attention_heads, batch_first=True)
            self.fusion = nn.ModuleList(
                FusionBlock(dim, options.fusion_heads, options.fusion_dropout, options.cross_dropout)
                for _ in range(1 if options.fusion == "tied" else FUSION_PASSES)
            )

    def training_only(self) -> list[nn.Module]:
        """The reconstruction, whose branch no retrieval passes."""
        if self.options.reconstruction == "none":
            return []
        return [self.image_latent, self.gene_tokens, self.first_attention, self.fusion]

    def embed_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> embeddings (B, D), not normalised."""
        return self._embed_tokens(self.image_encoder(images))

    def embed_expression(self, expression: Tensor) -> Tensor:
        """Expression (B, G) -> embeddings (B, D), not normalised."""
        return self.gene_projection(expression)

    def forward(self, batch: Batch, mask_generator: torch.Generator | None = None) -> Outputs:
        """Embed both modalities, and reconstruct the embedding of one from its masked tokens and the other's tokens.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            Draws the mask, on the device of the batch; torch's own generator of that device where none is given. The
            mask is drawn in evaluation mode too (released code).
        """
        tokens = self.image_encoder(batch.images)  # (B, 50, 768)
        image, gene = self._embed_tokens(tokens), self.embed_expression(batch.expression)
        if self.options.reconstruction == "none":
            return Outputs(image, gene, None)
        return Outputs(image, gene, self._reconstruct(tokens, batch.expression, mask_generator))

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss_total = log(1 + Loss_c) + log(1 + Loss_r), the latter with a reconstruction; and what to watch.

        Parameters
        ----------
        batch, mask_generator
            As for :meth:`forward`.

        Returns
        -------
        dict
            Scalars: ``total``, differentiable; detached, those of :func:`spotwise.models.losses.monitored` and, unless nothing
            is reconstructed, ``reconstruction``, which is Loss_r.
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
        return self.image_projection(tokens.mean(dim=1))  # the class token counts as one of the 50

    def _reconstruct(self, tokens: Tensor, expression: Tensor, mask_generator: torch.Generator | None) -> Tensor:
        genes = self.gene_tokens(expression)  # (B, 8, 256)
        latent = self.image_latent(tokens)  # (B, 50, 256)
        x, guide = (latent, genes) if self.options.reconstruction == "image" else (genes, latent)
        x, _ = self.first_attention(self._mask(x, mask_generator), guide, guide, need_weights=False)
        for step in range(FUSION_PASSES):
            x = self.fusion[step % len(self.fusion)](x, guide)
        return at_least_float32(x).mean(dim=1)

    def _mask(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Set values or whole tokens of (B, T, D) to zero, each by a draw of its own, without rescaling the others."""
        shape = x.shape if self.options.mask_granularity == "element" else (*x.shape[:2], 1)
        draws = torch.rand(shape, generator=generator, device=x.device)
        return x.masked_fill(draws >= 1 - self.options.masked_fraction, 0)
