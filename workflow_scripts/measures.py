"""Average every measure per predictor."""

from spotwise.jobs import job
from spotwise.tables.measures import read_measures, write_measures

with job(snakemake.log[0]):
    params = snakemake.params
    table = read_measures(
        snakemake.input.scores, snakemake.input.slide_scores, params.top, params.cohorts, params.predictors
    )
    write_measures(table, params.top, snakemake.output.csv, snakemake.output.markdown)
