"""Draw the learning curves of one cohort."""

from spotwise.reporting.figures import style
from spotwise.reporting.figures.learning_curves import draw_learning_curves
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_learning_curves(
        dict(zip(snakemake.params.labels, snakemake.input.histories, strict=True)),
        style.method_looks(snakemake.params.methods),
        snakemake.output.pdf,
        snakemake.output.png,
    )
