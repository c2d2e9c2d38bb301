"""Draw PCC per gene as box plots, a panel per slide."""

from spotwise.averages import read_listed
from spotwise.figures import style
from spotwise.figures.boxplot import pcc_boxplot
from spotwise.jobs import job

with job(snakemake.log[0]):
    pcc_boxplot(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
    )
