"""Find the tissue on a slide that was never sequenced, and record what is known of the slide."""

from pathlib import Path

from spotwise.data.tissue_outline import area_mm2, draw_outline, find_outline, write_outline
from spotwise.data.unsequenced_slides import HIRES_PX, LOWRES_PX, slide_facts, slide_picture, write_picture
from spotwise.runtime.files import write_json
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    files, params, output = snakemake.input, snakemake.params, snakemake.output
    drawn = files.get("outline")
    facts = slide_facts(Path(files.slide), params.source, params.um_per_px)
    size, um_per_px = (facts["width"], facts["height"]), facts["um_per_px"]
    picture, warnings = slide_picture(Path(files.slide), params.source, um_per_px)
    outline = find_outline(picture, size, um_per_px, params.source, Path(drawn) if drawn else None)
    facts["warnings"] += warnings + outline.warnings
    facts["tissue_mm2"] = area_mm2(outline.tissue, um_per_px)
    facts["tissue_share"] = outline.tissue.area / (size[0] * size[1])
    facts["tissue_from"] = str(drawn or "the slide")
    facts["left_out_mm2"] = area_mm2(outline.left_out, um_per_px)
    write_outline(outline.tissue, output.outline)
    draw_outline(picture, size, um_per_px, outline, output.picture)
    write_picture(picture, HIRES_PX, output.hires)
    write_picture(picture, LOWRES_PX, output.lowres)
    write_json(output.facts, facts)
    for warning in facts["warnings"]:
        logger.warning("%s", warning)
