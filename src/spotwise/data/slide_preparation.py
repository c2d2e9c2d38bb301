"""Tissue and spots of a slide that was never sequenced, written to files one after the other."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from spotwise.data.spot_grid import centres_pitch, grid_pitch, place_spots, read_centres, write_spots
from spotwise.data.tissue_outline import area_mm2, draw_outline, find_outline, read_outline, write_outline
from spotwise.data.unsequenced_slides import HIRES_PX, LOWRES_PX, slide_facts, slide_picture, write_picture
from spotwise.runtime.files import write_json

logger = logging.getLogger(__name__)


def prepare_tissue(
    slide: Path, source: str, um_per_px: float | None, drawn: Path | None, output: Mapping[str, str | Path]
) -> None:
    """Outline the tissue of a slide and record what is known of it.

    Parameters
    ----------
    slide, source
        Slide that OpenSlide reads, and the user's file that it is or comes from.
    um_per_px
        Pixel size as given by the user.
    drawn
        The user's outline of the tissue, a GeoJSON or a mask.
    output
        Files to write: ``outline`` (GeoJSON), ``picture`` (the outline to check), ``hires`` and ``lowres`` (the slide,
        shrunk), and ``facts`` (JSON), which is written last.

    Raises
    ------
    InputError
        As :func:`spotwise.data.unsequenced_slides.slide_facts` and :func:`spotwise.data.tissue_outline.find_outline`.
    """
    facts = slide_facts(slide, source, um_per_px)
    size, um_per_px = (facts["width"], facts["height"]), facts["um_per_px"]
    picture, warnings = slide_picture(slide, source, um_per_px)
    outline = find_outline(picture, size, um_per_px, source, drawn)
    facts["warnings"] += warnings + outline.warnings
    facts["tissue_mm2"] = area_mm2(outline.tissue, um_per_px)
    facts["tissue_share"] = outline.tissue.area / (size[0] * size[1])
    facts["tissue_from"] = str(drawn or "the slide")
    facts["left_out_mm2"] = area_mm2(outline.left_out, um_per_px)
    write_outline(outline.tissue, output["outline"])
    draw_outline(picture, size, um_per_px, outline, output["picture"])
    write_picture(picture, HIRES_PX, output["hires"])
    write_picture(picture, LOWRES_PX, output["lowres"])
    write_json(output["facts"], facts)
    for warning in facts["warnings"]:
        logger.warning("%s", warning)


def prepare_spots(facts: Path, outline: Path, centres: Path | None, layout: str, pitch_um: float, output: Path) -> None:
    """Place the spots of a slide, on a grid or where the user says.

    Parameters
    ----------
    facts, outline
        What :func:`prepare_tissue` wrote.
    centres
        The user's CSV of centres, which comes before ``layout`` and ``pitch_um``.
    output
        AnnData to write, as by :func:`spotwise.data.spot_grid.write_spots`.

    Raises
    ------
    InputError
        As :func:`spotwise.data.spot_grid.place_spots` and :func:`spotwise.data.spot_grid.read_centres`.
    """
    known = json.loads(Path(facts).read_text(encoding="utf-8"))
    size, um_per_px = (known["width"], known["height"]), known["um_per_px"]
    tissue, _ = read_outline(Path(outline), size, um_per_px)
    warnings: list[str] = []
    if centres:
        spots, warnings = read_centres(centres, tissue, um_per_px, size)
        pitch_um = centres_pitch(spots, um_per_px)
    else:
        spots = place_spots(tissue, um_per_px, layout, pitch_um, size, known["source"])
        pitch_um = grid_pitch(layout, pitch_um)
    write_spots(spots, pitch_um, output, warnings)
    for warning in warnings:
        logger.warning("%s", warning)
    logger.info("%d spots", len(spots))
