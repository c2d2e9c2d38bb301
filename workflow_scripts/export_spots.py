"""Export the spots of a slide that was never sequenced, with genes as measurements, for QuPath."""

from pathlib import Path

import anndata

from spotwise.reporting.predicted_genes import choose_genes
from spotwise.reporting.spot_geojson import write_spots
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    params = snakemake.params
    predictions = dict(zip(params.models, map(anndata.read_h5ad, snakemake.input.predictions), strict=True))
    genes = {model: choose_genes(prediction.var, params.genes) for model, prediction in predictions.items()}
    size = write_spots(predictions, genes, Path(snakemake.output.spots))
    logger.info("%.1f MB", size / 1e6)
