"""Download one sample at the pinned revision, or know again what is there, and write its manifest."""

from pathlib import Path

from spotwise import downloads
from spotwise.jobs import job

with job(snakemake.log[0]):
    downloads.download(
        snakemake.params.repository,
        snakemake.params.revision,
        snakemake.wildcards.sample,
        snakemake.params.files,
        Path(snakemake.output.counts).parents[1],
    )
