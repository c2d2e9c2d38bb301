"""Draw what training the methods cost."""

from spotwise.evaluation.training_costs import read_job_costs
from spotwise.reporting.figures import style
from spotwise.reporting.figures.cost_chart import draw_training_costs
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    draw_training_costs(
        read_job_costs(snakemake.input.jobs),
        style.method_looks(snakemake.params.methods),
        snakemake.output.pdf,
        snakemake.output.png,
    )
