"""Draw gene-gene correlations and expression maps of one test slide."""

from spotwise import hest
from spotwise.figures.correlation import gene_correlation
from spotwise.figures.maps import choose_genes, expression_maps
from spotwise.jobs import job
from spotwise.slides import um_per_px

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
        um_per_px(metadata),
        hest.spot_diameter_um(metadata),
        snakemake.output.maps_pdf,
        snakemake.output.maps_png,
    )
