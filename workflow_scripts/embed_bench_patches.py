"""Embed the patches of one task of the HEST benchmark with a frozen encoder."""

from pathlib import Path

from spotwise.data.bench_layout import read_task
from spotwise.inference.embeddings import embed_patches
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    params = snakemake.params
    for sample, patches in read_task(params.root, snakemake.wildcards.task).patches.items():
        logger.info("%s", sample)
        embed_patches(
            patches,
            params.encoder,
            params.pretrained,
            params.device,
            params.threads,
            Path(snakemake.output.embeddings) / f"{sample}.h5",
            params.checkpoint,
        )
