"""Draw PCC per gene against the noise ceiling."""

from spotwise.averages import read_listed
from spotwise.figures import style
from spotwise.figures.ceiling import noise_ceiling
from spotwise.jobs import job

with job(snakemake.log[0]):
    noise_ceiling(
        read_listed(snakemake.input.scores, [snakemake.params.top]),
        style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn),
        snakemake.params.top,
        snakemake.output.pdf,
        snakemake.output.png,
    )
