"""Average the scores of domains over slides and seeds, and sum up the variable genes of each slide."""

from spotwise.reporting.tables import domain_tables
from spotwise.reporting.tables.layout import write_pages
from spotwise.runtime.job import job

TOP_GENES = 8

with job(snakemake.log[0]):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    notes = domain_tables.space_notes(params.kinds, domain_tables.encoder_notes(files.spaces))
    domains = domain_tables.domain_table(domain_tables.read_scores(files.scores), params.cohorts, notes)
    page = domain_tables.domains_page(domains, params.n_domains, params.note)
    write_pages(domains, [page], output.domains, output.domains_md, output.domains_tex)
    agreements = dict(zip(map(tuple, params.slides), files.agreements, strict=True))
    genes = domain_tables.variable_gene_table(agreements, files.genes, TOP_GENES)
    page = domain_tables.variable_genes_page(genes, next(iter(notes)))
    write_pages(genes, [page], output.variable_genes, output.variable_genes_md, float_format="%.6g")
