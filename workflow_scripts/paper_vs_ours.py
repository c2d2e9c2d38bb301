"""Set each published number beside ours."""

from pathlib import Path

from spotwise.evaluation.averages import read_listed
from spotwise.evaluation.predictor_comparisons import COMPARED_COLUMNS
from spotwise.evaluation.published_numbers import TOP, read_published_numbers
from spotwise.reporting.tables.paper_vs_ours import compare, write
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    numbers = read_published_numbers(Path(snakemake.input.published[0]).parent)
    scores = read_listed(snakemake.input.scores, TOP, COMPARED_COLUMNS, numbers["gene"].unique())
    write(
        compare(numbers, scores, snakemake.params.draws),
        snakemake.params.cohorts,
        snakemake.output.csv,
        snakemake.output.markdown,
        snakemake.output.html,
    )
