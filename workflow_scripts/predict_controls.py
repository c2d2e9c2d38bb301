"""Predict one test slide by every control: without its image, or, for the bounds, from its truth."""

from spotwise.data.folds import read_fold
from spotwise.inference.prediction import read_ceiling
from spotwise.inference.prediction_files import write_prediction
from spotwise.models.registry import load
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    fold = read_fold(snakemake.input.fold)
    sample, seed = snakemake.wildcards.sample, int(snakemake.wildcards.seed)
    ceiling = read_ceiling(snakemake.input.ceiling, fold.genes) if snakemake.input.get("ceiling") else None
    for name, path in zip(snakemake.params.controls, snakemake.output.predictions, strict=True):
        control = load(name)()
        write_prediction(
            path,
            fold,
            sample,
            control.predict(fold, sample, seed, ceiling),
            {
                "predictor": name,
                "method": name,
                "kind": "control",
                "k": 0,
                "k_used": 0,
                "seed": seed,
                "note": control.note(fold, sample),
            },
        )
