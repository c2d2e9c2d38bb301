"""Set each published number beside ours."""

from pathlib import Path

from spotwise.averages import read_listed
from spotwise.jobs import job
from spotwise.paper_vs_ours import compare, write
from spotwise.published import TOP, published
from spotwise.statistics import COLUMNS

with job(snakemake.log[0]):
    numbers = published(Path(snakemake.input.published[0]).parent)
    scores = read_listed(snakemake.input.scores, TOP, COLUMNS, numbers["gene"].unique())
    write(
        compare(numbers, scores, snakemake.params.draws),
        snakemake.params.cohorts,
        snakemake.output.csv,
        snakemake.output.markdown,
        snakemake.output.html,
    )
