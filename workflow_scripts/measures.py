"""Average every measure per predictor."""

from spotwise.reporting.tables.further_measures import read_measures, write_measures
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    table = read_measures(
        snakemake.input.scores, snakemake.input.slide_scores, params.top, params.cohorts, params.predictors
    )
    write_measures(table, params.top, snakemake.output.csv, snakemake.output.markdown)
