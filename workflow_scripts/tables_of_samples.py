"""Sum up the samples and their warnings."""

from spotwise.reporting.tables.layout import write_pages
from spotwise.reporting.tables.sample_tables import sample_table, samples_page
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    table = sample_table(snakemake.params.sheet, snakemake.input.qc)
    logger.info("%d warnings", table["n_warnings"].sum())
    write_pages(table, [samples_page(table)], snakemake.output.samples, snakemake.output.samples_md)
