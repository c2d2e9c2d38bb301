"""Options of CMRCNet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spotwise.models.options import Options, require_divisor
from spotwise.runtime.validation import Fraction, PositiveNumber, Size

AsReading = Annotated[int, Field(ge=0)]

# What the authors' code does, and what their paper says
READINGS = {
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
AS_READING = ("as_reading", 0)


class CMRCNetOptions(Options):
    """Options of CMRCNet. `as_reading` and 0 leave a choice to the reading."""

    reading: Literal["released", "paper"] = Field(
        "released", description="what the authors' code does, or what their paper says"
    )
    encoder_depth: AsReading = Field(0, description="blocks of the image encoder; 0 is 8 (released) or 12 (paper)")
    encoder_heads: AsReading = Field(
        0, description="attention heads of the image encoder; 0 is 8 (released) or 12 (paper)"
    )
    activation: Literal["as_reading", "elu", "selu"] = Field(
        "as_reading", description="activation of the gene tokens; ELU as released, SELU in the paper"
    )
    fusion: Literal["as_reading", "tied", "untied"] = Field(
        "as_reading",
        description="whether both fusion passes share their weights; tied as released, untied in the paper",
    )
    combination: Literal["as_reading", "average", "sum"] = Field(
        "as_reading", description="how the two cross-entropies of Loss_c combine; average as released, sum in the paper"
    )
    log: Literal["as_reading", "per_sample", "of_mean"] = Field(
        "as_reading",
        description="log(1 + Loss_c) of each sample (released) or of the mean over samples (paper)",
    )
    pairing: Literal["released", "paper"] = Field(
        "released",
        description="which cross-entropy meets the targets and which their transpose: as in the code (BLEEP's way, "
        "which the paper says to follow) or as in the paper's equation",
    )
    reconstruction: Literal["image", "expression", "none"] = Field(
        "image",
        description="which embedding is reconstructed from its own masked tokens and the other modality's tokens; none "
        "leaves the contrastive loss alone (Table 5)",
    )
    reconstruction_loss: Literal["mse", "cosine"] = Field(
        "mse", description="Loss_r as mean squared error, or as 1 - cosine (Table 5)"
    )
    detach_target: bool = Field(
        False, description="whether Loss_r treats the embedding to reconstruct as a constant (in neither reading)"
    )
    masked_fraction: Fraction = Field(
        0.5, description="share of the tokens' values set to zero; `mask_prob` of the released code is the share kept"
    )
    mask_granularity: Literal["element", "token"] = Field(
        "element", description="whether single values are masked (both readings) or whole tokens"
    )
    temperature: PositiveNumber = Field(
        1.0, description="divides the logits of Loss_c and multiplies the exponent of its targets"
    )
    image_size: Size = Field(224, description="side of an image in pixels; patches of another size are resized")
    patch_size: Size = Field(
        32, description="side of a ViT patch in pixels; 224 and 32 give 49 tokens and the class token"
    )
    encoder_dim: Size = Field(768, description="channels of the image encoder")
    embedding_dim: Size = Field(256, description="channels of the shared space, the latent image and the gene tokens")
    gene_tokens: Size = Field(
        8, description="tokens of the expression; the SNN has gene_tokens x embedding_dim channels"
    )
    attention_heads: Size = Field(4, description="heads of the first cross-attention")
    fusion_heads: Size = Field(8, description="heads of the attentions in the fusion modules")
    projection_dropout: Fraction = Field(0.1, description="dropout of both projection heads, before the residual")
    token_dropout: Fraction = Field(0.25, description="alpha dropout of the gene tokens")
    fusion_dropout: Fraction = Field(0.1, description="dropout of self-attention and MLP in the fusion modules")
    cross_dropout: Fraction = Field(0.25, description="dropout of queries and keys in the residual cross-attention")

    @model_validator(mode="after")
    def _check_divisors(self) -> CMRCNetOptions:
        heads = self.encoder_heads or READINGS[self.reading]["encoder_heads"]
        require_divisor("encoder_heads", heads, "encoder_dim", self.encoder_dim)
        require_divisor("patch_size", self.patch_size, "image_size", self.image_size)
        require_divisor("attention_heads", self.attention_heads, "embedding_dim", self.embedding_dim)
        require_divisor("fusion_heads", self.fusion_heads, "embedding_dim", self.embedding_dim)
        return self

    def resolved(self) -> CMRCNetOptions:
        """Return the same options with nothing left to the reading."""
        reading = READINGS[self.reading]
        return self.model_copy(
            update={key: value for key, value in reading.items() if getattr(self, key) in AS_READING}
        )
