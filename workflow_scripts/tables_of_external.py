"""Sum up what of the predictions of other tools was imported, and the warnings about it."""

from spotwise.reporting.tables.external_tables import external_page, external_table
from spotwise.reporting.tables.layout import write_pages
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    table = external_table(snakemake.input.facts)
    write_pages(table, [external_page(table)], snakemake.output.external, snakemake.output.external_md)
