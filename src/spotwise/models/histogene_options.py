"""Options of HisToGene."""

from __future__ import annotations

from pydantic import Field, model_validator

from spotwise.models.batch import Context
from spotwise.models.options import Options, require_divisor
from spotwise.runtime.validation import Fraction, PositiveNumber, Size


class HisToGeneOptions(Options):
    """Options of HisToGene."""

    window: Size = Field(1024, description="most spots of a window, all of which attend to each other")
    image_size: Size = Field(112, description="side of an image in pixels; patches of another size are resized")
    dim: Size = Field(1024, description="channels of the transformer")
    layers: Size = Field(8, description="transformer blocks (the authors' tutorial has 8, their README 4)")
    heads: Size = Field(16, description="attention heads")
    dropout: Fraction = Field(
        0.1, description="dropout of the summed embeddings, and after every projection and MLP layer of the transformer"
    )
    position_std: PositiveNumber = Field(
        0.02, description="initial standard deviation of the position embeddings; 1 in the released code"
    )

    @property
    def context(self) -> Context:
        """Windows of a slide, in images of ``image_size`` pixels."""
        return Context(image_px=self.image_size, window=self.window)

    @model_validator(mode="after")
    def _check_divisors(self) -> HisToGeneOptions:
        require_divisor("heads", self.heads, "dim", self.dim)
        return self
