"""Fit one method on frozen features of one fold."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.training.frozen import fit

with job(snakemake.log[0]):
    fit(
        Path(snakemake.input.fold),
        dict(zip(snakemake.params.samples, map(Path, snakemake.input.embeddings), strict=True)),
        snakemake.params.model,
        snakemake.params.options,
        snakemake.params.threads,
        Path(snakemake.output.weights).parent,
    )
