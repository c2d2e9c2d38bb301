"""Download one sample at the pinned revision, or verify what is there, and write its manifest."""

from pathlib import Path

from spotwise.data.hub import fetch_sample
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    fetch_sample(
        snakemake.params.repository,
        snakemake.params.revision,
        snakemake.wildcards.sample,
        snakemake.params.files,
        Path(snakemake.output.counts).parents[1],
    )
