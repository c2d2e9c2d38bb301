"""Average scores into Table 1."""

from spotwise.averages import mean_table
from spotwise.jobs import job
from spotwise.metrics import read_scores
from spotwise.tables import write_table

with job(snakemake.log[0]):
    table = mean_table(
        read_scores(snakemake.input.scores),
        top=[snakemake.params.top],
        cohorts=list(snakemake.params.cohorts),
        predictors=snakemake.params.predictors,
        markers=snakemake.params.cohorts,
    )
    write_table(table, snakemake.output.csv, snakemake.output.markdown)
