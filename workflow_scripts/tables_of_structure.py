"""Average the scores of domains over slides and seeds, and sum up the variable genes of each slide."""

from spotwise.reporting.tables import domain_tables
from spotwise.runtime.job import job

TOP_GENES = 8

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    notes = domain_tables.space_notes(params.kinds, domain_tables.random_encoders(files.spaces))
    domains = domain_tables.domain_table(domain_tables.read_scores(files.scores), params.cohorts, notes)
    domain_tables.write_domains(
        domains,
        domain_tables.domains_page(domains, params.n_domains, params.note),
        snakemake.output.domains,
        snakemake.output.domains_md,
        snakemake.output.domains_tex,
    )
    agreements = dict(zip(map(tuple, params.slides), files.agreements, strict=True))
    genes = domain_tables.variable_gene_table(agreements, files.genes, TOP_GENES)
    domain_tables.write_variable_genes(
        genes,
        domain_tables.variable_genes_page(genes, next(iter(notes))),
        snakemake.output.variable_genes,
        snakemake.output.variable_genes_md,
    )
