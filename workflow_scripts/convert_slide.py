"""Convert a slide that OpenSlide does not read into a tiled pyramid."""

from pathlib import Path

from spotwise.data.slide_conversion import convert_slide
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    source, output = Path(snakemake.input.slide), Path(snakemake.output.slide)
    for warning in convert_slide(source, output, snakemake.params.um_per_px, snakemake.threads):
        logger.warning("%s", warning)
