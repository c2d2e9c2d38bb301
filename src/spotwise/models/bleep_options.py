"""Options of BLEEP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from spotwise.models.options import Options, Pretrained, require_divisor
from spotwise.runtime.validation import Fraction, PositiveNumber, Size, fault

VIT = "vit"


class BLEEPOptions(Options):
    """Options of BLEEP."""

    encoder: str = Field(
        "resnet50", description=f"name of a timm model, or `{VIT}` for CMRCNet's image encoder, trained from scratch"
    )
    pretrained: Pretrained = Field(
        "if_available",
        description="initial weights of a timm encoder: random, pretrained where they can be downloaded, or pretrained",
    )
    image_size: Size = Field(
        224,
        description="side of an image in pixels; patches of another size are resized; many timm models take one size",
    )
    patch_size: Size = Field(32, description=f"side of a patch of the encoder `{VIT}` in pixels")
    encoder_dim: Size = Field(768, description=f"channels of the encoder `{VIT}`")
    encoder_depth: Size = Field(8, description=f"blocks of the encoder `{VIT}`")
    encoder_heads: Size = Field(8, description=f"attention heads of the encoder `{VIT}`")
    embedding_dim: Size = Field(256, description="channels of the shared space")
    projection_dropout: Fraction = Field(0.1, description="dropout of both projection heads, before the residual")
    temperature: PositiveNumber = Field(1.0, description="divides the logits")
    target_temperature: Literal["divide", "multiply"] = Field(
        "divide",
        description="what the temperature does in the targets; BLEEP's ResNet50 divides by it, its ViT multiplies",
    )

    @model_validator(mode="after")
    def _check_vit(self) -> BLEEPOptions:
        if self.encoder == VIT:
            if self.pretrained == "required":
                raise fault("pretrained", "'required'", f"'no': no weights were published for {VIT!r}")
            require_divisor("encoder_heads", self.encoder_heads, "encoder_dim", self.encoder_dim)
            require_divisor("patch_size", self.patch_size, "image_size", self.image_size)
        return self
