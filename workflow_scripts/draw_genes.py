"""Draw mean, variance and PCC of the genes of one test slide."""

import pandas as pd

from spotwise.evaluation.averages import AVERAGED
from spotwise.evaluation.score_files import read_scores
from spotwise.reporting.figures import style
from spotwise.reporting.figures.gene_bars import draw_gene_bars
from spotwise.reporting.figures.profiles import DRAWN, draw_profiles
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    tables = (read_scores([path], [*AVERAGED, *DRAWN]) for path in snakemake.input.scores)
    scores = pd.concat(table[table["sample"].eq(snakemake.wildcards.sample)] for table in tables)
    looks = style.predictor_looks(snakemake.params.predictors, snakemake.params.drawn)
    output = snakemake.output
    draw_profiles(scores, looks, output.profiles_pdf, output.profiles_png)
    draw_gene_bars(scores, looks, snakemake.params.top, output.genes_pdf, output.genes_png)
