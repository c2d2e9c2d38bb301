"""Embed image and expression of each spot of one slide with a trained method."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.structure.joint import embed_joint

with job(snakemake.log[0]):
    embed_joint(
        Path(snakemake.input.weights).parent,
        Path(snakemake.input.fold),
        Path(snakemake.input.patches),
        snakemake.wildcards.sample,
        snakemake.params.device,
        snakemake.params.threads,
        snakemake.wildcards.space,
        Path(snakemake.output.space),
    )
