"""Pictures inside an HTML page."""

from __future__ import annotations

import base64
import io
import os

from PIL import Image

JPEG = {"quality": 88, "subsampling": 0}  # print quality at a tenth of the size of PNG


def embedded(picture: str | os.PathLike, longest_edge: int | None = None) -> str:
    """Return a picture as a data URL of a JPEG, shrunk to a longest edge in pixels."""
    packed = io.BytesIO()
    with Image.open(picture) as image:
        shown = image.convert("RGB")
    if longest_edge:
        shown.thumbnail((longest_edge, longest_edge), Image.Resampling.LANCZOS)
    shown.save(packed, "JPEG", **JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
