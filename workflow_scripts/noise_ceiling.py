"""Find what the noise of the counts of one sample lets any method reach, gene by gene."""

import anndata

from spotwise.data.folds import spots_with_patches
from spotwise.evaluation.noise_ceiling import noise_ceiling
from spotwise.runtime.files import write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    counts = anndata.read_h5ad(snakemake.input.counts)
    spots = spots_with_patches(counts, snakemake.input.patches).barcode
    table = noise_ceiling(counts, snakemake.params.target_sum, spots)
    logger.info("%d spots, mean ceiling of %d genes: %.3f", len(spots), len(table), table["ceiling"].mean())
    write_table(table, snakemake.output.ceiling)
