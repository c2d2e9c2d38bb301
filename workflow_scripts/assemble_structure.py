"""Scale the expression of one slide, or of the slides of a cohort, for the training of clustering methods."""

import anndata

from spotwise.data.folds import spots_with_patches, write_fold
from spotwise.runtime.job import job
from spotwise.structure.clustering_fold import assemble_clustering_fold

with job(snakemake.log[0]) as logger:
    files = zip(snakemake.params.samples, snakemake.input.counts, snakemake.input.patches, strict=True)
    fold = assemble_clustering_fold(
        {sample: spots_with_patches(anndata.read_h5ad(counts), patches) for sample, counts, patches in files},
        snakemake.params.patients,
        snakemake.wildcards.cohort,
        snakemake.params.validation_fraction,
    )
    logger.info("%d spots, %d genes", len(fold.barcode), len(fold.genes))
    write_fold(snakemake.output.fold, fold)
