"""Options of the training loop, known without torch."""

from __future__ import annotations

from copy import copy
from typing import Annotated, Literal

from pydantic import Field, create_model

from spotwise.runtime.validation import UNSET, PositiveNumber, Settings, Size

# Options that do not change the result
NEUTRAL = ("memory", "save_every_minutes")
# Options that hold for a whole run, not for a method
OF_THE_RUN = ("device", "threads", *NEUTRAL)


class TrainingOptions(Settings):
    """How methods are trained. Defaults are those of the paper's Implementation section and the released code."""

    device: Literal["cuda", "cpu", "auto"] = Field(
        "cuda", description="`cuda` stops without a GPU; `auto` then falls back to the CPU and logs it"
    )
    epochs: Size = Field(60, description="passes over the training spots")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        64,
        description="spots per step, which a contrastive loss depends on; HisToGene takes a window of spots per step",
    )
    learning_rate: PositiveNumber = Field(1e-4, description="learning rate at the start of the cosine schedule")
    final_learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="learning rate at its end")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        1e-3, description="weight decay of `adamw`; an L2 penalty with `adam` and `sgd`"
    )
    optimiser: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="`adamw` as CMRCNet; `adam` and `sgd` for methods that were published with them"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum of `sgd`")
    clip_norm: PositiveNumber | None = Field(
        None, description="largest norm of the gradient over all parameters together; null does not clip"
    )
    augment: bool = Field(
        True,
        description="random flips and right-angle rotations, or the augmentation that the method asks for",
    )
    precision: Literal["bf16", "float32"] = Field(
        "bf16", description="`bf16` is used on a GPU that supports it; the CPU always computes in float32"
    )
    threads: Size = Field(4, description="CPU threads of a training job, which the last bits of a result depend on")
    memory: Literal["auto", "device", "host", "map"] = Field(
        "auto",
        description="where patches are kept: on the device, in main memory, or in a file mapped into it; `auto` takes "
        "the first of which they fill less than half of what is free",
    )
    save_every_minutes: PositiveNumber = Field(
        10, description="minutes between resumable states, the most that a killed training loses"
    )

    @property
    def decisive(self) -> dict[str, object]:
        """Options that determine the result."""
        return self.model_dump(exclude=set(NEUTRAL))


def _unset(name: str) -> tuple[object, object]:
    """Return a field of the options without its default."""
    field = copy(TrainingOptions.model_fields[name])
    field.default = UNSET
    return field.annotation, field


TrainingOverrides = create_model(
    "TrainingOverrides",
    __base__=Settings,
    __doc__="Training options of one method that differ from those of the run.",
    **{name: _unset(name) for name in TrainingOptions.model_fields if name not in OF_THE_RUN},
)
