"""Options of ST-Net."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from spotwise.models.options import Options, Pretrained, Stages, stages
from spotwise.runtime.validation import Size, fault

# Growth rate and blocks of DenseNet-121
DENSENET_121 = (32, "6-12-24-16")


class STNetOptions(Options):
    """Options of ST-Net. The defaults are DenseNet-121."""

    pretrained: Pretrained = Field(
        "if_available",
        description="initial weights: random, DenseNet-121's of ImageNet where they can be downloaded, or these",
    )
    image_size: Size = Field(224, description="side of an image in pixels; patches of another size are resized")
    growth_rate: Size = Field(32, description="channels that a layer of the DenseNet adds; the stem has twice as many")
    blocks: Stages = Field("6-12-24-16", description="layers of each dense block")
    loss: Literal["mean", "sum"] = Field(
        "mean",
        description="squared error as mean over spots and genes, or as ST-Net's sum over the spots of a batch of the "
        "mean over genes",
    )
    symmetries: bool = Field(True, description="whether to predict by the mean over the 8 symmetries of the square")

    @property
    def published(self) -> bool:
        """Whether the network is DenseNet-121, for which there are pretrained weights."""
        return (self.growth_rate, self.blocks) == DENSENET_121

    @model_validator(mode="after")
    def _check_network(self) -> STNetOptions:
        halvings = len(stages(self.blocks)) + 1  # two by the stem, one between blocks
        if self.image_size < 2**halvings:
            raise fault("image_size", self.image_size, f"{2**halvings} or more with these blocks")
        if self.pretrained == "required" and not self.published:
            growth_rate, blocks = DENSENET_121
            shape = f"'no', or growth_rate {growth_rate} and blocks {blocks}, which have weights"
            raise fault("pretrained", "'required'", shape)
        return self
