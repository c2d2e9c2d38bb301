"""Draw PCC per gene against the noise ceiling."""

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.ceiling_scatter import draw_ceiling
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_ceiling(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
    )
