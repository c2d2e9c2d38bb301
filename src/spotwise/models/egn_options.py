"""Options of EGN."""

from __future__ import annotations

from pydantic import Field, model_validator

from spotwise.models.batch import Context
from spotwise.models.options import Options, require_divisor
from spotwise.runtime.validation import PositiveNumber, Size


class EGNOptions(Options):
    """Options of EGN. The defaults are the run of the released README."""

    exemplars: Size = Field(6, description="exemplars of a spot; 6 as released, 9 in the paper")
    image_size: Size = Field(256, description="side of an image in pixels; patches of another size are resized")
    patch_size: Size = Field(32, description="side of a ViT patch in pixels; 256 and 32 give 64 tokens")
    dim: Size = Field(1024, description="channels of the transformer")
    depth: Size = Field(8, description="layers of the transformer")
    heads: Size = Field(16, description="attention heads of the transformer")
    mlp_dim: Size = Field(4096, description="hidden channels of the transformer's MLPs")
    projector_layers: Size = Field(
        2, description="residual layers that query and exemplars pass before the transformer"
    )
    bridge_every: Size = Field(2, description="layers of the transformer to each bridging block")
    bridge_heads: Size = Field(8, description="attention heads of a bridging block; 16 in the paper")
    bridge_head_dim: Size = Field(64, description="channels of each of these heads")
    correlation_weight: PositiveNumber = Field(
        0.5, description="weight of the correlation in the loss; 0.5 as released, 1 in the paper"
    )

    @property
    def context(self) -> Context:
        """Images of ``image_size`` pixels and the exemplars."""
        return Context(image_px=self.image_size, exemplars=self.exemplars)

    @model_validator(mode="after")
    def _check_divisors(self) -> EGNOptions:
        require_divisor("patch_size", self.patch_size, "image_size", self.image_size)
        require_divisor("heads", self.heads, "dim", self.dim)
        require_divisor("bridge_every", self.bridge_every, "depth", self.depth)
        return self

    @property
    def tokens(self) -> int:
        """Tokens of an image, T."""
        return (self.image_size // self.patch_size) ** 2
