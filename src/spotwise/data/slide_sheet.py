"""Slides to predict: the rows of their table, or the items of a list in the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from spotwise.data.sample_sheet import SampleId, Text
from spotwise.data.text_tables import read_rows
from spotwise.errors import InputError
from spotwise.runtime.configured_paths import FilePath
from spotwise.runtime.validation import PositiveNumber, Settings, optional, validated

TABLE = "a tab-separated table of slides"


class SlideToPredict(Settings):
    """A slide whose expression is predicted, without counts of its own."""

    slide: SampleId = Field(description="name of the slide, which names a folder; by default that of its file")
    path: FilePath = Field("", description="its file; none for a slide that is drawn with a generated cohort")
    um_per_px: PositiveNumber = optional("pixel size of level 0 in micrometres; by default that in the file's tags")
    patient: Text = Field("", description="patient that the slide is from; a patient of the training is warned about")
    spots: FilePath = Field("", description="CSV of spot centres, x and y in pixels of level 0, instead of a grid")
    tissue: FilePath = Field("", description="GeoJSON or mask of the tissue, instead of the tissue that is found")


def read_slides(given: str | Sequence[str | Mapping[str, object]], where: str) -> list[SlideToPredict]:
    """Read slides to predict from the path of a table, or from a list of paths and mappings.

    Parameters
    ----------
    given
        A tab-separated table with the columns ``path`` and optionally those of :class:`SlideToPredict`, or a list whose
        items are paths or mappings of these names.
    where
        Files of the configuration, for messages.

    Raises
    ------
    InputError
        For a table that cannot be read, an unknown or malformed field, or two slides of one name.
    """
    if isinstance(given, str):
        source, rows = given, read_rows(Path(given), TABLE, "predict.slides", "slide, path, um_per_px, ...", "path")
        places = [f"row {number}" for number in range(1, len(rows) + 1)]
    else:
        source, rows = where, [{"path": item} if isinstance(item, str) else item for item in given]
        places = [f"predict.slides.{number}" for number in range(len(rows))]
    slides = [_slide(row, source, place) for row, place in zip(rows, places, strict=True)]
    seen: dict[str, SlideToPredict] = {}
    for one in slides:
        if other := seen.get(one.slide.casefold()):
            found = f"{other.path} and {one.path}, both named {one.slide}"
            raise InputError(source, "slide", found, "names that differ in more than case: give one in the field slide")
        seen[one.slide.casefold()] = one
    return slides


def _slide(row: object, source: str, place: str) -> SlideToPredict:
    if not isinstance(row, Mapping):
        raise InputError(source, place, repr(row), "the path of a slide, or keys with values: path, um_per_px, ...")
    named = dict(row)
    named.setdefault("slide", _name_of(str(named.get("path", ""))))
    if isinstance(named.get("um_per_px"), int) and not isinstance(named["um_per_px"], bool):
        named["um_per_px"] = float(named["um_per_px"])
    if isinstance(text := named.get("um_per_px"), str):  # from a table
        try:
            named["um_per_px"] = float(text)
        except ValueError:
            expected = "micrometres per pixel of level 0, such as 0.25, or an empty cell"
            raise InputError(source, f"{place}: um_per_px", repr(text), expected) from None
    return validated(SlideToPredict, named, source, place)


def _name_of(path: str) -> str:
    """Return the name of a slide's file without endings, with other signs than those of ids as ``-``."""
    stem = re.sub(r"(\.ome)?\.[A-Za-z0-9]+$", "", Path(path).name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-") or "slide"
