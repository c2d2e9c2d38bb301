"""Predict one test slide without looking at it: every control."""

from spotwise.folds import read_fold
from spotwise.jobs import job
from spotwise.models import load
from spotwise.predictions import write_prediction

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    seed = int(snakemake.wildcards.seed)
    for name, path in zip(snakemake.params.controls, snakemake.output.predictions, strict=True):
        write_prediction(
            path,
            fold,
            snakemake.wildcards.sample,
            load(name)().predict(fold, snakemake.wildcards.sample, seed),
            {
                "predictor": name,
                "method": name,
                "kind": "control",
                "k": 0,
                "k_used": 0,
                "seed": seed,
                "note": "",
            },
        )
