"""Download one sample at the pinned revision, or know again what is there, and write its manifest."""

from pathlib import Path

from spotwise.data import download
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    download.download(
        snakemake.params.repository,
        snakemake.params.revision,
        snakemake.wildcards.sample,
        snakemake.params.files,
        Path(snakemake.output.counts).parents[1],
    )
