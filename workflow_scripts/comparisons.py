"""Compare predictors pairwise, and give each one's mean an interval."""

from spotwise.evaluation.averages import notes_of, read_listed
from spotwise.evaluation.gene_sets import gene_sets
from spotwise.evaluation.predictor_comparisons import (
    COMPARED_COLUMNS,
    compare_predictors,
    mean_intervals,
    write_comparisons,
)
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    top, draws = [snakemake.params.top], snakemake.params.draws
    scores = read_listed(snakemake.input.scores, top, COMPARED_COLUMNS)
    sets = gene_sets(scores, top)
    comparisons, intervals = compare_predictors(scores, sets, draws), mean_intervals(scores, sets, draws)
    notes = {f"note_{name}": notes_of(scores, comparisons[name]) for name in ("first", "second")}
    write_comparisons(comparisons.assign(**notes), snakemake.output.comparisons)
    write_comparisons(intervals.assign(note=notes_of(scores, intervals["predictor"])), snakemake.output.intervals)
