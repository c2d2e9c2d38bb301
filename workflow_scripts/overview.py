"""Draw PCC per gene as box plots, a panel per cohort."""

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.overview import draw_overview, read_comparisons
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_overview(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        read_comparisons(snakemake.input.comparisons),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.reference,
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
        snakemake.params.cohorts,
    )
