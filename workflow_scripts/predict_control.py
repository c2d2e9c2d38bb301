"""Predict one test slide without looking at it."""

from spotwise.folds import read_fold
from spotwise.jobs import job
from spotwise.models import load
from spotwise.predictions import write_prediction

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    seed = int(snakemake.wildcards.seed)
    write_prediction(
        snakemake.output.prediction,
        fold,
        snakemake.wildcards.sample,
        load(snakemake.params.model)().predict(fold, snakemake.wildcards.sample, seed),
        {
            "predictor": snakemake.wildcards.predictor,
            "method": snakemake.wildcards.predictor,
            "kind": "control",
            "k": 0,
            "k_used": 0,
            "seed": seed,
            "note": "",
        },
    )
