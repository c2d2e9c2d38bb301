"""Draw PCC per gene as box plots, a panel per cohort."""

from spotwise.averages import read_listed
from spotwise.figures import style
from spotwise.figures.overview import overview, read_comparisons
from spotwise.jobs import job

with job(snakemake.log[0]):
    overview(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        read_comparisons(snakemake.input.comparisons),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.reference,
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
        snakemake.params.cohorts,
    )
