"""Embed the training expression and the test patches of one fold with its trained method."""

from pathlib import Path

from spotwise.inference.embeddings import build_bank
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    build_bank(
        Path(snakemake.input.fold),
        dict(zip(snakemake.params.samples, map(Path, snakemake.input.patches), strict=True)),
        snakemake.params.model,
        snakemake.params.options,
        Path(snakemake.input.weights),
        snakemake.params.device,
        snakemake.params.threads,
        Path(snakemake.output.bank),
        Path(snakemake.output.queries),
    )
