"""Predict every test slide of a cohort by every control: without images, or, for the bounds, from the truth."""

from pathlib import Path

from spotwise.inference.prediction import predict_by_controls
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    ceilings = dict(zip(params.with_ceiling, map(Path, files.ceilings), strict=True))
    for fold in map(Path, files.folds):
        for seed in snakemake.config["seeds"]:
            controls = [name for name, seeds in params.seeds.items() if seed in seeds]
            output = Path(snakemake.output.predictions) / fold.parent.name / f"seed{seed}"
            predict_by_controls(fold, ceilings, controls, seed, output)
