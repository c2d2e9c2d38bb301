"""Embed the training expression and the test patches of one fold with its trained method."""

from pathlib import Path

from spotwise.data.folds import read_fold
from spotwise.inference.embeddings import embed_fold
from spotwise.inference.retrieval import write_embeddings
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    bank, queries = embed_fold(
        Path(snakemake.input.weights).parent,
        read_fold(snakemake.input.fold),
        dict(zip(snakemake.params.samples, map(Path, snakemake.input.patches), strict=True)),
        snakemake.params.device,
        snakemake.params.threads,
    )
    write_embeddings(snakemake.output.bank, bank)
    write_embeddings(snakemake.output.queries, queries)
