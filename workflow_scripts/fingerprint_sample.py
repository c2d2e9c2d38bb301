"""Take the fingerprint of one sample: hashes of its files, its picture and its counts."""

import anndata

from spotwise.data.fingerprints import fingerprint
from spotwise.runtime.files import write_json
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    found = fingerprint(
        [snakemake.input.raw_counts, snakemake.input.metadata, snakemake.input.image],
        snakemake.input.thumbnail,
        anndata.read_h5ad(snakemake.input.counts),
        snakemake.input.patches,
    )
    logger.info("%d of %d spots without tissue", found["n_without_tissue"], found["n_spots"])
    write_json(snakemake.output.fingerprint, found)
