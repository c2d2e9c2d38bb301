"""Predict one test slide from frozen features."""

import json
from pathlib import Path

from spotwise.data.folds import read_fold
from spotwise.inference.prediction_files import write_prediction
from spotwise.runtime.job import job
from spotwise.training.frozen import predict

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    trained = json.loads(Path(snakemake.input.summary).read_text(encoding="utf-8"))
    write_prediction(
        snakemake.output.prediction,
        fold,
        snakemake.wildcards.sample,
        predict(
            fold,
            snakemake.wildcards.sample,
            Path(snakemake.input.embedding),
            snakemake.params.model,
            snakemake.input.weights,
            trained,
        ),
        {
            "predictor": snakemake.wildcards.predictor,
            "method": snakemake.params.method,
            "kind": "method",
            "k": trained.get("k", 0),
            "k_used": trained.get("k_used", 0),
            "seed": int(snakemake.wildcards.seed),
            "note": "" if trained["pretrained_loaded"] else "encoder without pretrained weights",
        },
    )
