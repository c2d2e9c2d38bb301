"""Embed the spots of one slide by a baseline: principal components, of expression, image features or both."""

import anndata

from spotwise.runtime.job import job
from spotwise.structure.baseline_spaces import baseline_space, slide_spots
from spotwise.structure.spaces import write_space

with job(snakemake.log[0]) as logger:
    slide = slide_spots(anndata.read_h5ad(snakemake.input.lognorm), snakemake.input.get("patches") or None)
    space = baseline_space(
        snakemake.wildcards.space, slide, int(snakemake.wildcards.seed), snakemake.input.get("features") or None
    )
    logger.info("%d spots, %d dimensions", *space.embedding.shape)
    write_space(snakemake.output.space, space)
