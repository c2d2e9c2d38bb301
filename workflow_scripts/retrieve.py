"""Predict one test slide by the mean expression of the most similar training spots."""

import json
from pathlib import Path

import numpy as np

from spotwise.data.folds import read_fold
from spotwise.inference.prediction_files import write_prediction
from spotwise.inference.retrieval import read_embeddings, retrieve
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    fold = read_fold(snakemake.input.fold)
    bank_fold = read_fold(snakemake.input.bank_fold)
    bank = read_embeddings(snakemake.input.bank)
    queries = read_embeddings(snakemake.input.queries)
    queries = queries[np.flatnonzero(fold.sample[queries.row] == snakemake.wildcards.sample)]
    predicted, k_used = retrieve(
        queries,
        bank,
        bank_fold.expression[bank.row],
        snakemake.params.k,
        snakemake.params.matching == "weighted",
        snakemake.threads,
    )
    if k_used < snakemake.params.k:
        logger.warning("K = %d of a bank of %d spots: the whole bank is averaged", snakemake.params.k, k_used)
    trained = json.loads(Path(snakemake.input.summary).read_text(encoding="utf-8"))
    write_prediction(
        snakemake.output.prediction,
        fold,
        snakemake.wildcards.sample,
        predicted,
        {
            "predictor": snakemake.wildcards.predictor,
            "method": snakemake.params.method,
            "kind": "method",
            "k": snakemake.params.k,
            "k_used": k_used,
            "seed": int(snakemake.wildcards.seed),
            "note": "encoder without pretrained weights" if trained["pretrained_loaded"] is False else "",
        },
    )
