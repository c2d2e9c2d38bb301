"""Base of the methods' options, and the checks that several share.

The options of a method stand in `<module>_options.py` beside it, as `<Name>Options`. Neither needs torch: the
configuration is checked where nothing is trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotwise.models.batch import Context
from spotwise.runtime.validation import Form, Settings, fault

Pretrained = Literal["no", "if_available", "required"]
Stages = Annotated[
    str, Field(pattern=r"^[1-9][0-9]*(-[1-9][0-9]*)*$(?!\n)"), Form("whole numbers above 0 joined by '-', e.g. 6-12-24")
]


class Options(Settings):
    """Base of the methods' options."""

    @property
    def context(self) -> Context:
        """What a trained method needs of its spots, by default images of ``image_size`` pixels."""
        return Context(image_px=getattr(self, "image_size", None))


def stages(value: str) -> tuple[int, ...]:
    """Split an option that gives a number for each stage of a network, such as ``6-12-24-16``."""
    return tuple(int(number) for number in value.split("-"))


def require_divisor(name: str, part: int, whole_name: str, whole: int) -> None:
    """Check that an option divides another one, such as the heads of an attention its channels."""
    if whole % part:
        raise fault(name, part, f"a divisor of {whole_name} ({whole})")
