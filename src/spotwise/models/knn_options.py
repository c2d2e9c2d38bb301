"""Options of the nearest images."""

from __future__ import annotations

from pydantic import Field

from spotwise.models.options import Options
from spotwise.runtime.validation import Size


class KNNImageOptions(Options):
    """Options of the nearest images in frozen features."""

    k: Size = Field(50, description="training spots to average; all of them where there are fewer")
