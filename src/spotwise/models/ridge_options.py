"""Options of the ridge regression."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spotwise.models.options import Options
from spotwise.runtime.validation import PositiveNumber, Size, fault


class RidgeOptions(Options):
    """Options of the ridge regression on frozen features."""

    protocol: Literal["grouped", "hest"] = Field(
        "grouped",
        description="penalty chosen on training slides left out in turn, or the protocol of the HEST benchmark",
    )
    components: Annotated[int, Field(ge=0)] = Field(
        256,
        description="principal components of the standardised features, at most one per spot or feature; 0 for all",
    )
    smallest_alpha: PositiveNumber = Field(1.0, description="smallest penalty tried; hest has a fixed one")
    largest_alpha: PositiveNumber = Field(1e6, description="largest penalty tried")
    n_alphas: Size = Field(13, description="penalties tried, evenly spaced on a log scale")
    n_blocks: Annotated[int, Field(ge=2)] = Field(
        4, description="spatial blocks of the only training slide, where penalties cannot be judged across slides"
    )

    @model_validator(mode="after")
    def _check_penalties(self) -> RidgeOptions:
        if self.smallest_alpha > self.largest_alpha:
            raise fault("smallest_alpha", self.smallest_alpha, f"at most largest_alpha ({self.largest_alpha})")
        return self
