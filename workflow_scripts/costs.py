"""Sum up what training the methods cost."""

from spotwise.evaluation.training_costs import collect_job_costs, cost_table, write_costs
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    costs = collect_job_costs(
        snakemake.params.methods,
        snakemake.input.summaries,
        snakemake.params.benchmarks,
        snakemake.params.embeddings,
    )
    write_costs(costs, snakemake.output.jobs)
    write_costs(cost_table(costs), snakemake.output.csv)
