"""Place the spots of a slide that was never sequenced."""

from pathlib import Path

from spotwise.data.slide_preparation import prepare_spots
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    centres = Path(files.centres) if files.centres else None
    spots = Path(snakemake.output.spots)
    prepare_spots(Path(files.facts), Path(files.outline), centres, params.layout, params.pitch_um, spots)
