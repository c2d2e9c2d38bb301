"""Predict one test slide by a trained regression method."""

import json
from pathlib import Path

from spotwise.data.folds import read_fold
from spotwise.inference.prediction_files import write_prediction
from spotwise.inference.regression import predict_slides
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    trained = json.loads(Path(snakemake.input.summary).read_text(encoding="utf-8"))
    embeddings = zip(snakemake.params.embedded, map(Path, snakemake.input.embeddings), strict=True)
    write_prediction(
        snakemake.output.prediction,
        fold,
        snakemake.wildcards.sample,
        predict_slides(
            Path(snakemake.input.weights).parent,
            read_fold(snakemake.input.bank_fold),
            {snakemake.wildcards.sample: Path(snakemake.input.patches)},
            dict(embeddings),
            snakemake.params.device,
            snakemake.params.threads,
        )[snakemake.wildcards.sample],
        {
            "predictor": snakemake.wildcards.predictor,
            "method": snakemake.params.method,
            "kind": "method",
            "k": 0,
            "k_used": 0,
            "seed": int(snakemake.wildcards.seed),
            "note": "encoder without pretrained weights" if trained["pretrained_loaded"] is False else "",
        },
    )
