"""Average the scores of domains over slides and seeds, and sum up the variable genes of each slide."""

from spotwise.jobs import job
from spotwise.structure import table

TOP_GENES = 8

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    notes = table.space_notes(params.kinds, table.random_encoders(files.spaces))
    domains = table.domain_table(table.read_scores(files.scores), params.cohorts, notes)
    table.write_domains(
        domains,
        table.domains_page(domains, params.n_domains, params.note),
        snakemake.output.domains,
        snakemake.output.domains_md,
        snakemake.output.domains_tex,
    )
    agreements = dict(zip(map(tuple, params.slides), files.agreements, strict=True))
    genes = table.variable_gene_table(agreements, files.genes, TOP_GENES)
    table.write_variable_genes(
        genes,
        table.variable_genes_page(genes, next(iter(notes))),
        snakemake.output.variable_genes,
        snakemake.output.variable_genes_md,
    )
