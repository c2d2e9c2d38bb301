"""Choose the gene panel of one fold and join its slides."""

import anndata
import pandas as pd

from spotwise.constants import PAPER
from spotwise.data.folds import assemble_fold, check_one_species, spots_with_patches, write_fold
from spotwise.data.genes import select_genes
from spotwise.data.sample_sheet import FoldPlan
from spotwise.runtime.files import write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    plan = FoldPlan(**snakemake.params.plan)
    samples = snakemake.params.samples
    chooses = [s for s in samples if s in plan.train or snakemake.wildcards.protocol == PAPER]
    counts = dict(zip(samples, snakemake.input.counts, strict=True))
    check_one_species(counts)
    panel, markers = select_genes(
        {sample: anndata.read_h5ad(counts[sample]) for sample in chooses},
        snakemake.params.hvg_per_slide,
        snakemake.params.markers,
        snakemake.params.target_sum,
    )
    n_hvg = int((panel["n_slides_hvg"] > 0).sum())
    logger.info("%d genes, %d of them highly variable, chosen on %s", len(panel), n_hvg, ", ".join(chooses))
    genes = panel["gene"].tolist()
    files = zip(samples, snakemake.input.lognorm, snakemake.input.patches, strict=True)
    fold = assemble_fold(
        plan,
        snakemake.wildcards.cohort,
        snakemake.wildcards.protocol,
        {sample: spots_with_patches(anndata.read_h5ad(lognorm), patches, genes) for sample, lognorm, patches in files},
        snakemake.params.patients,
        panel,
        snakemake.params.validation_fraction,
    )
    logger.info("spots: %s", pd.Series(fold.role).value_counts().to_dict())
    write_table(markers, snakemake.output.markers)
    write_fold(snakemake.output.fold, fold)
