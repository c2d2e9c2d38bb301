"""Draw mean PCC under both protocols."""

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.protocol_gap import draw_protocol_gap
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_protocol_gap(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
        snakemake.params.cohorts,
    )
