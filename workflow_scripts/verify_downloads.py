"""Compare every downloaded file with the hash in its manifest."""

from pathlib import Path

from spotwise.data import download
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    for manifest in snakemake.input.manifests:
        download.check(Path(manifest).parents[2], manifest, by_hash=True)
        logger.info("%s: all files as downloaded", manifest)
