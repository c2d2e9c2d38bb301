"""Draw gene-gene correlations and expression maps of one test slide."""

import json
from pathlib import Path

from spotwise.data import hest
from spotwise.reporting.figures.expression_maps import choose_genes, draw_expression_maps
from spotwise.reporting.figures.gene_correlation import draw_gene_correlation
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    predictions = dict(zip(snakemake.params.predictors, snakemake.input.predictions, strict=True))
    metadata = hest.read_metadata(snakemake.input.metadata)
    draw_gene_correlation(
        predictions, snakemake.params.top, snakemake.output.correlation_pdf, snakemake.output.correlation_png
    )
    draw_expression_maps(
        predictions,
        choose_genes(snakemake.input.predictions[0], snakemake.params.genes, 4),
        snakemake.input.thumbnail,
        hest.slide_size(metadata, snakemake.input.metadata),
        json.loads(Path(snakemake.input.qc).read_text(encoding="utf-8"))["um_per_px"],
        hest.spot_diameter_um(metadata),
        snakemake.output.maps_pdf,
        snakemake.output.maps_png,
    )
