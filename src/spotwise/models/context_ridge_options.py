"""Options of the ridge regression on context features."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from spotwise.models.options import Options, stages
from spotwise.runtime.validation import Form, PositiveNumber, Size, fault

Sides = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if type(given) is int else given),
    Field(pattern=r"^[1-9][0-9]*(-[1-9][0-9]*)*$(?!\n)"),
    Form("micrometres joined by '-', e.g. 112-224"),
]


class ContextRidgeOptions(Options):
    """Options of the ridge regression on context features."""

    fields: Sides = Field(
        "112",
        description="sides in micrometres of the squares around a spot that are described, ascending; 112 is a patch, "
        "others need the slide",
    )
    levels: bool = Field(True, description="describe a square by three depths of the encoder")
    pooled: bool = Field(
        False, description="describe it by the encoder's pooled output, too, which stands in for levels that it lacks"
    )
    stain: bool = Field(True, description="describe it by statistics of its stain and texture")
    rings: Annotated[int, Field(ge=0)] = Field(3, description="rings of neighbouring spots whose mean is described")
    own_weight: PositiveNumber = Field(2.0, description="weight of the spot itself, where a ring has 1")
    components: Size = Field(64, description="principal components of each block")
    half_weight_counts: Annotated[float, Field(ge=0)] = Field(
        2000.0, description="counts of a spot with half of the largest weight in the fit; 0 weighs all spots alike"
    )
    largest_rank: Annotated[int, Field(ge=0)] = Field(
        16,
        description="components of the expression that may be predicted; this, half and a quarter of it are tried; 0 "
        "predicts each gene by itself",
    )
    centre_targets: bool = Field(True, description="centre the expression on each slide, or on all of them together")
    centre_features: bool = Field(
        True, description="standardise the features on each slide, or on the training slides together"
    )
    smallest_alpha: PositiveNumber = Field(0.1, description="smallest penalty tried")
    largest_alpha: PositiveNumber = Field(1000.0, description="largest penalty tried")
    n_alphas: Size = Field(17, description="penalties tried, evenly spaced on a log scale")
    judged_genes: Size = Field(
        200, description="genes of the largest variance within the training slides by which settings are chosen"
    )
    n_blocks: Annotated[int, Field(ge=2)] = Field(
        4, description="spatial blocks of the only training slide, where settings cannot be judged across slides"
    )

    @property
    def fields_um(self) -> tuple[int, ...]:
        """Sides of the squares in micrometres."""
        return stages(self.fields)

    @model_validator(mode="after")
    def _check(self) -> ContextRidgeOptions:
        if (
            list(self.fields_um) != sorted(set(self.fields_um))
            or not 16 <= min(self.fields_um) <= max(self.fields_um) <= 2000
        ):
            raise fault("fields", repr(self.fields), "different ascending sides from 16 to 2000 um, such as 112-224")
        if not (self.levels or self.pooled or self.stain):
            raise fault("levels", self.levels, "at least one of levels, pooled and stain to be true")
        if self.smallest_alpha > self.largest_alpha:
            raise fault("smallest_alpha", self.smallest_alpha, f"at most largest_alpha ({self.largest_alpha})")
        return self
