"""Options of MicNet."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spotwise.models.batch import Context
from spotwise.models.options import Options, Pretrained, Stages
from spotwise.runtime.validation import Fraction, PositiveNumber, Size


class MicNetOptions(Options):
    """Options of MicNet."""

    encoder: str = Field(
        "resnet101.tv_in1k",
        description="image encoder: name of a timm model, by default with the weights of the released code; the last "
        "block of a ResNet gets ReLU6, which bounds features",
    )
    pretrained: Pretrained = Field(
        "if_available",
        description="initial weights of the encoder: random, pretrained where they can be downloaded, or pretrained",
    )
    image_size: Size = Field(
        224,
        description="side of an image in pixels; patches of another size are resized; 256 as released, of about 88 um",
    )
    embedding_dim: Size = Field(100, description="channels of each modality's embedding")
    gene_hidden: Stages = Field(
        "500-100", description="channels of the hidden layers of the gene encoder, each with BatchNorm and ReLU6"
    )
    negatives: Size = Field(
        100, description="noise candidates of each spot, drawn with replacement from the training spots"
    )
    own_among_negatives: bool = Field(
        False, description="whether the spot itself may be among its noise candidates, as in the released code"
    )
    bank_momentum: Fraction = Field(0.9, description="share of a memory bank's row that an update keeps")
    objective: Literal["nce", "cross_entropy"] = Field(
        "nce",
        description="noise-contrastive estimation on dot products of the embeddings (released), or cross-entropy of "
        "all candidates on cosines divided by the temperature",
    )
    temperature: PositiveNumber = Field(
        0.07, description="divides the cosines of cross_entropy; the released code names it and never uses it"
    )
    augmentation: Literal["warp", "turns"] = Field(
        "warp",
        description="what training images undergo: the released projective warps, flips and colour changes, or the "
        "flips and rotations of all other methods",
    )

    @property
    def context(self) -> Context:
        """Images of ``image_size`` pixels, warped in training."""
        return Context(image_px=self.image_size, augment="warp" if self.augmentation == "warp" else None)
