"""Draw the genes, gene-gene correlations and expression maps of one test slide."""

from pathlib import Path

import pandas as pd

from spotwise.evaluation.averages import AVERAGED_COLUMNS
from spotwise.evaluation.score_files import read_scores
from spotwise.inference.observed_files import read_observed
from spotwise.reporting.figures import style
from spotwise.reporting.figures.expression_maps import choose_genes, draw_expression_maps
from spotwise.reporting.figures.gene_bars import draw_gene_bars
from spotwise.reporting.figures.gene_correlation import draw_gene_correlation
from spotwise.reporting.figures.profiles import DRAWN, draw_profiles
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params, output = snakemake.input, snakemake.params, snakemake.output
    tables = (read_scores([path], [*AVERAGED_COLUMNS, *DRAWN], params.drawn) for path in files.scores)
    scores = pd.concat(table[table["sample"].eq(snakemake.wildcards.sample)] for table in tables)
    looks = style.predictor_looks(params.predictors, params.drawn)
    style.save(draw_profiles(scores, looks), output.profiles_pdf, output.profiles_png)
    style.save(draw_gene_bars(scores, looks, params.top), output.genes_pdf, output.genes_png)
    paths = [Path(folder) / name for folder, name in zip(files.predictions, params.files, strict=True)]
    predictions = dict(zip(params.drawn, paths, strict=True))
    observed = read_observed(Path(files.observed) / f"{snakemake.wildcards.sample}.h5ad")
    figure = draw_gene_correlation(predictions, params.top, observed)
    style.save(figure, output.correlation_pdf, output.correlation_png)
    genes = choose_genes(paths[0], params.genes, 4, observed)
    figure = draw_expression_maps(predictions, genes, files.qc, files.thumbnail, files.metadata, observed)
    style.save(figure, output.maps_pdf, output.maps_png)
