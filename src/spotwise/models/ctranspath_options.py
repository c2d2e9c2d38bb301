"""Options of CTransPath."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from spotwise.models.options import Options, Pretrained, Stages, require_divisor, stages
from spotwise.runtime.configured_paths import FilePath
from spotwise.runtime.validation import Form, fault, optional

STRIDE = 4  # of the convolutional stem


class CTransPathOptions(Options):
    """Options of CTransPath. The defaults are the published network."""

    pretrained: Pretrained = optional(
        "initial weights: random, the published ones where they can be downloaded, or the published ones; by default "
        "`required`, as these are gated, and `no` for other sizes without a checkpoint, which have none",
    )
    checkpoint: FilePath = Field(
        "", description="local file of weights in the published layout; empty for the one on the Hugging Face hub"
    )
    image_size: Annotated[int, Field(ge=STRIDE, multiple_of=STRIDE), Form(f"a multiple of {STRIDE}")] = Field(
        224, description="side of an image in pixels; patches of another size are resized"
    )
    embed_dim: Annotated[int, Field(ge=8, multiple_of=8), Form("a multiple of 8")] = Field(
        96, description="channels of the first stage, doubled by every other stage"
    )
    depths: Stages = Field("2-2-6-2", description="blocks of each stage")
    heads: Stages = Field("3-6-12-24", description="attention heads of each stage")

    @property
    def shape(self) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
        """Arguments of :func:`spotwise.models.ctranspath.ctranspath_backbone`."""
        return self.image_size, self.embed_dim, stages(self.depths), stages(self.heads)

    @property
    def published(self) -> bool:
        """Whether the network is the one whose weights were published."""
        return _is_published(self.model_dump())

    @model_validator(mode="before")
    @classmethod
    def _require_gated_weights(cls, given: object) -> object:
        if not isinstance(given, dict) or "pretrained" in given:
            return given
        return {**given, "pretrained": "required" if given.get("checkpoint") or _is_published(given) else "no"}

    @model_validator(mode="after")
    def _check_network(self) -> CTransPathOptions:
        _, _, depths, heads = self.shape
        if len(depths) != len(heads):
            raise fault("heads", repr(self.heads), f"{len(depths)} numbers, as many as depths has")
        for stage, number in enumerate(heads):
            require_divisor("heads", number, f"the channels of stage {stage + 1}", self.embed_dim * 2**stage)
        if self.pretrained == "no" and self.checkpoint:
            raise fault("pretrained", "'no' with a checkpoint", "if_available or required, or no checkpoint")
        if self.pretrained == "required" and not (self.checkpoint or self.published):
            raise fault("pretrained", "'required'", "a checkpoint, or the published sizes")
        return self


def _is_published(given: Mapping[str, object]) -> bool:
    """Tell whether options describe the network whose weights were published."""
    network = ("image_size", "embed_dim", "depths", "heads")
    defaults = {key: CTransPathOptions.model_fields[key].default for key in network}
    return all(given.get(key, default) == default for key, default in defaults.items())
