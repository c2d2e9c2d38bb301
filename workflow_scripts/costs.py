"""Sum up and draw what training the methods cost."""

from pathlib import Path

from spotwise.evaluation.training_costs import collect_job_costs, cost_table, write_costs
from spotwise.reporting.figures import style
from spotwise.reporting.figures.cost_chart import draw_training_costs
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    timed = Path(output.csv).parents[1] / "benchmarks"
    embeddings = {encoder: [timed / name for name in names] for encoder, names in params.embeddings.items()}
    benchmarks = [timed / name for name in params.benchmarks]
    costs = collect_job_costs(params.models, snakemake.input.summaries, benchmarks, embeddings)
    write_costs(costs, output.jobs)
    write_costs(cost_table(costs), output.csv)
    figure = draw_training_costs(costs, style.method_looks(params.methods, params.controls))
    style.save(figure, output.costs_pdf, output.costs_png)
