"""Draw what training the methods cost."""

from spotwise.costs import read_jobs
from spotwise.figures import style
from spotwise.figures.costs import training_costs
from spotwise.jobs import job

with job(snakemake.log[0]):
    training_costs(
        read_jobs(snakemake.input.jobs),
        style.method_looks(snakemake.params.methods),
        snakemake.output.pdf,
        snakemake.output.png,
    )
