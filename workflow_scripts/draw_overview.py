"""Draw the scores of all cohorts under each protocol, and the gap between the protocols."""

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.overview import draw_overview, read_comparisons
from spotwise.reporting.figures.protocol_gap import draw_protocol_gap
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    scores = read_listed(snakemake.input.scores, [params.top], predictors=params.drawn)
    looks = style.predictor_looks(params.predictors, params.drawn)
    comparisons = read_comparisons(snakemake.input.comparisons)
    for protocol in params.protocols:
        own = scores[scores["protocol"].eq(protocol)]
        figure = draw_overview(own, comparisons, looks, params.reference, params.top, params.cohorts)
        style.save(figure, output[f"overview_{protocol}_pdf"], output[f"overview_{protocol}_png"])
    if output.get("protocols_png"):
        in_both = scores.groupby("cohort")["protocol"].transform("nunique") == len(params.protocols)
        figure = draw_protocol_gap(scores[in_both], looks, params.top, params.cohorts)
        style.save(figure, output.protocols_pdf, output.protocols_png)
