"""Compare predictors pairwise, and give each one's mean an interval."""

from spotwise.evaluation.averages import read_listed
from spotwise.evaluation.gene_sets import gene_sets
from spotwise.evaluation.significance import COLUMNS, comparisons, mean_intervals, write
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    top, draws = [snakemake.params.top], snakemake.params.draws
    scores = read_listed(snakemake.input.scores, top, COLUMNS)
    sets = gene_sets(scores, top)
    write(comparisons(scores, sets, draws), snakemake.output.comparisons)
    write(mean_intervals(scores, sets, draws), snakemake.output.intervals)
