"""Find the genes of one slide that vary over it and those that separate its domains, and compare the two."""

import anndata
import pandas as pd

from spotwise.constants import BARCODES, KMEANS, SPATIAL, TOTAL_COUNTS
from spotwise.runtime.files import write_json, write_table
from spotwise.runtime.job import job
from spotwise.structure.domain_genes import domain_genes
from spotwise.structure.variable_genes import gene_agreement, spatially_variable_genes

with job(snakemake.log[0]) as logger:
    params, outputs = snakemake.params, snakemake.output
    domains = pd.read_parquet(snakemake.input.domains)
    chosen = (domains["space"] == params.space) & (domains["seed"] == params.seed)
    domains = domains[chosen & (domains["clustering"] == KMEANS) & ~domains["refined"]]
    slide = anndata.read_h5ad(snakemake.input.lognorm)[domains[BARCODES].to_numpy()]
    depth = slide.obs[TOTAL_COUNTS].to_numpy()
    spatial = spatially_variable_genes(slide.X, slide.var_names, slide.obsm[SPATIAL], depth, snakemake.input.lognorm)
    tested = slide[:, spatial["gene"].sort_values().to_numpy()]
    of_domains = domain_genes(tested.X, tested.var_names, domains["domain"].to_numpy(), snakemake.input.domains)
    found = gene_agreement(spatial, of_domains)
    logger.info("%(n_genes)d genes: %(n_spatial)d vary over the slide, %(n_domain)d separate the domains", found)
    write_table(spatial, outputs.spatial)
    write_table(of_domains, outputs.of_domains)
    write_json(outputs.agreement, found)
