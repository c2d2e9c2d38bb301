"""Place the spots of a slide that was never sequenced."""

import json
from pathlib import Path

from spotwise.data.spot_grid import centres_pitch, grid_pitch, place_spots, read_centres, write_spots
from spotwise.data.tissue_outline import read_outline
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    files, params = snakemake.input, snakemake.params
    facts = json.loads(Path(files.facts).read_text(encoding="utf-8"))
    size, um_per_px = (facts["width"], facts["height"]), facts["um_per_px"]
    tissue, _ = read_outline(Path(files.outline), size, um_per_px)
    if centres := files.get("centres"):
        spots, warnings = read_centres(Path(centres), tissue, um_per_px, size)
        pitch_um = centres_pitch(spots, um_per_px)
        for warning in warnings:
            logger.warning("%s", warning)
    else:
        spots = place_spots(tissue, um_per_px, params.layout, params.pitch_um, size, facts["source"])
        pitch_um = grid_pitch(params.layout, params.pitch_um)
    write_spots(spots, pitch_um, Path(snakemake.output.spots))
    logger.info("%d spots", len(spots))
