"""Draw PCC per gene as box plots, a panel per slide."""

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.boxplot import draw_boxplot
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_boxplot(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
    )
