"""Embed the spots of one slide by every baseline."""

import anndata

from spotwise.runtime.job import job
from spotwise.structure.baseline_spaces import baseline_space, slide_spots
from spotwise.structure.spaces import write_space

with job(snakemake.log[0]) as logger:
    slide = slide_spots(anndata.read_h5ad(snakemake.input.lognorm), snakemake.input.get("patches") or None)
    for name, path in zip(snakemake.params.spaces, snakemake.output, strict=True):
        space = baseline_space(name, slide, snakemake.params.seed, snakemake.input.get("features") or None)
        logger.info("%s: %d spots, %d dimensions", name, *space.embedding.shape)
        write_space(path, space)
