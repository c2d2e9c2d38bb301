"""Draw the scores and learning curves of one cohort and protocol."""

import pandas as pd

from spotwise.evaluation.averages import read_listed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.boxplot import draw_boxplot
from spotwise.reporting.figures.ceiling_scatter import draw_ceiling
from spotwise.reporting.figures.learning_curves import draw_learning_curves
from spotwise.reporting.figures.top_k_curve import draw_top_k_curves
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    scores = read_listed(snakemake.input.scores, [params.top])
    figure = draw_boxplot(scores, style.predictor_looks(params.predictors), params.top)
    style.save(figure, output.boxplot_pdf, output.boxplot_png)
    if output.get("ceiling_png"):
        shown = scores[scores["predictor"].isin([*params.drawn, "NoiseCeiling"])]
        figure = draw_ceiling(shown, style.predictor_looks(params.predictors, params.drawn), params.top)
        style.save(figure, output.ceiling_pdf, output.ceiling_png)
    looks = style.method_looks(params.methods)
    if output.get("curves_png"):
        histories = dict(zip(params.trainings, snakemake.input.histories, strict=True))
        style.save(draw_learning_curves(histories, looks), output.curves_pdf, output.curves_png)
    if output.get("neighbours_png"):
        sweeps = pd.concat(map(pd.read_parquet, snakemake.input.sweeps), ignore_index=True)
        figure = draw_top_k_curves(sweeps, looks, params.top_k, params.top)
        style.save(figure, output.neighbours_pdf, output.neighbours_png)
