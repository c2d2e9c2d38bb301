"""Embed image and expression of one slide's spots with a trained method."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.structure.joint import embed_joint

with job(snakemake.log[0]):
    embed_joint(
        model=Path(snakemake.input.model[0]).parent,
        fold=Path(snakemake.input.fold),
        patches=Path(snakemake.input.patches),
        sample=snakemake.wildcards.sample,
        device=snakemake.params.device,
        threads=snakemake.params.threads,
        space=snakemake.wildcards.space,
        output=Path(snakemake.output.space),
    )
