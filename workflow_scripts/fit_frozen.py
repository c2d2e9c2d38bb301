"""Fit one method on frozen features of one fold."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.training.frozen import fit

with job(snakemake.log[0]):
    params = snakemake.params
    fit(
        Path(snakemake.input.fold),
        dict(zip(params.samples, map(Path, snakemake.input.embeddings), strict=True)),
        params.model,
        params.options,
        params.threads,
        Path(snakemake.output.weights).parent,
        params.preparation,
    )
