"""Options of NH2ST."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spotwise.models.batch import Context
from spotwise.models.options import Options, Pretrained, require_divisor
from spotwise.runtime.validation import Fraction, PositiveNumber, Size, fault

Weight = Annotated[float, Field(ge=0)]


class NH2STOptions(Options):
    """Options of NH2ST. The defaults are those of the authors' command line."""

    encoder: str = Field(
        "resnet18", description="image trunk: name of a convolutional timm model, used without pooling and head"
    )
    pretrained: Pretrained = Field(
        "if_available",
        description="initial weights of the trunk: random, pretrained where they can be downloaded, or pretrained",
    )
    image_size: Size = Field(224, description="side of an image in pixels; patches of another size are resized")
    neighbours: Size = Field(9, description="spots of a neighbourhood, the spot itself included")
    hyperedge_nearest: Size = Field(
        3, description="spots of the neighbourhood that a hyperedge joins to its first one: the most similar to it"
    )
    dim: Size = Field(512, description="channels of all codes")
    hypergraph_hidden: Size = Field(1024, description="hidden channels of the hypergraph networks")
    decoder_hidden: Size = Field(256, description="hidden channels of the decoder")
    fusion_depth: Size = Field(1, description="layers of the fusion by cross-attention")
    fusion_heads: Size = Field(8, description="attention heads of the fusion")
    fusion_hidden: Size = Field(512, description="hidden channels of the feed-forward blocks of the fusion")
    dropout: Fraction = Field(0.5, description="dropout of the fusion")
    temperature: PositiveNumber = Field(0.05, description="divides the cosines of the contrastive losses")
    negative_weight: PositiveNumber = Field(
        0.1, description="multiplies the logits of all pairs of two spots; 1 is the usual contrastive loss"
    )
    contrast_before_fusion: bool = Field(
        False, description="contrast the codes themselves and not the fused ones, which hold a copy of their partner"
    )
    patch_weight: Weight = Field(
        1.0, description="weight of the contrastive loss of patches, beside a mean squared error of weight 1"
    )
    neighbour_weight: Weight = Field(0.5, description="weight of the contrastive loss of neighbourhoods")

    @property
    def context(self) -> Context:
        """Images of ``image_size`` pixels, and each spot's neighbourhood."""
        return Context(image_px=self.image_size, neighbours=self.neighbours)

    @model_validator(mode="after")
    def _check_network(self) -> NH2STOptions:
        require_divisor("fusion_heads", self.fusion_heads, "dim", self.dim)
        if self.neighbours <= self.hyperedge_nearest:
            raise fault("neighbours", self.neighbours, f"more than hyperedge_nearest ({self.hyperedge_nearest})")
        return self
