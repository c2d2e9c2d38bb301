"""Compare every downloaded file with the hash in its manifest."""

from pathlib import Path

from spotwise import downloads
from spotwise.jobs import job

with job(snakemake.log[0]) as logger:
    for manifest in snakemake.input.manifests:
        downloads.check(Path(manifest).parents[2], manifest, by_hash=True)
        logger.info("%s: all files as downloaded", manifest)
