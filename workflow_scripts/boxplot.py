"""Draw PCC per gene as box plots, a panel per slide."""

from spotwise.figures.boxplot import pcc_boxplot
from spotwise.jobs import job
from spotwise.metrics import read_scores

with job(snakemake.log[0]):
    pcc_boxplot(
        read_scores(snakemake.input.scores),
        snakemake.params.predictors,
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
        methods=snakemake.params.methods,
    )
