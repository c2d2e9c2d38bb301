"""Draw gene-gene correlations and expression maps of one test slide."""

import json
from pathlib import Path

from spotwise import hest
from spotwise.figures.correlation import gene_correlation
from spotwise.figures.maps import choose_genes, expression_maps
from spotwise.jobs import job

with job(snakemake.log[0]):
    predictions = dict(zip(snakemake.params.predictors, snakemake.input.predictions, strict=True))
    metadata = hest.read_metadata(snakemake.input.metadata)
    gene_correlation(
        predictions, snakemake.params.top, snakemake.output.correlation_pdf, snakemake.output.correlation_png
    )
    expression_maps(
        predictions,
        choose_genes(snakemake.input.predictions[0], snakemake.params.genes, 4),
        snakemake.input.thumbnail,
        hest.slide_size(metadata, snakemake.input.metadata),
        json.loads(Path(snakemake.input.qc).read_text(encoding="utf-8"))["um_per_px"],
        hest.spot_diameter_um(metadata),
        snakemake.output.maps_pdf,
        snakemake.output.maps_png,
    )
