"""Embed the patches of one sample with a frozen encoder."""

from pathlib import Path

from spotwise.inference.embeddings import embed_patches
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    embed_patches(
        Path(snakemake.input.patches),
        snakemake.params.encoder,
        snakemake.params.pretrained,
        snakemake.params.device,
        snakemake.params.threads,
        Path(snakemake.output.embedding),
        snakemake.params.checkpoint,
    )
