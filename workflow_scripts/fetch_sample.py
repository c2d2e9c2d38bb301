"""Download one sample at the pinned revision and record what came."""

from pathlib import Path

from spotwise import hest
from spotwise.files import write_json
from spotwise.jobs import job

with job(snakemake.log[0]) as logger:
    records = hest.download(
        snakemake.params.repository,
        snakemake.params.revision,
        snakemake.params.files,
        Path(snakemake.output.counts).parents[1],
        token=hest.token_from_environment(),
    )
    for record in records:
        logger.info("%s", record)
    write_json(snakemake.output.record, records)
