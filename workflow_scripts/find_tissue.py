"""Find the tissue on a slide that was never sequenced, and record what is known of the slide."""

from pathlib import Path

from spotwise.data.slide_preparation import prepare_tissue
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    drawn = Path(files.outline) if files.outline else None
    prepare_tissue(
        Path(files.slide),
        params.source,
        params.um_per_px,
        drawn,
        dict(zip(snakemake.output.keys(), snakemake.output, strict=True)),
    )
