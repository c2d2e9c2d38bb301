"""Compare every downloaded file with the hash in its manifest."""

from pathlib import Path

from spotwise.data.manifest import check
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    for path in snakemake.input.manifests:
        check(Path(path).parents[2], path, by_hash=True)
        logger.info("%s: all files as downloaded", path)
