"""Draw mean PCC under both protocols."""

from spotwise.averages import read_listed
from spotwise.figures import style
from spotwise.figures.protocols import protocol_gap
from spotwise.jobs import job

with job(snakemake.log[0]):
    protocol_gap(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
        snakemake.params.cohorts,
    )
