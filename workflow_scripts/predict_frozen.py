"""Predict one test slide from frozen features."""

from pathlib import Path

from spotwise.folds import read_fold
from spotwise.frozen import predict, pretrained
from spotwise.jobs import job
from spotwise.predictions import write_prediction

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    embedding = Path(snakemake.input.embedding)
    write_prediction(
        snakemake.output.prediction,
        fold,
        snakemake.wildcards.sample,
        predict(fold, snakemake.wildcards.sample, embedding, snakemake.params.model, snakemake.input.weights),
        {
            "predictor": snakemake.wildcards.predictor,
            "method": snakemake.params.method,
            "kind": "method",
            "k": 0,
            "k_used": 0,
            "seed": int(snakemake.wildcards.seed),
            "note": "" if pretrained(embedding) else "encoder without pretrained weights",
        },
    )
