"""Predict every test slide of a cohort by every control: without images, or, for the bounds, from the truth."""

from pathlib import Path

from spotwise.inference.prediction import predict_by_controls
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    ceilings = dict(zip(snakemake.params.samples, map(Path, snakemake.input.ceilings), strict=True))
    for fold in map(Path, snakemake.input.folds):
        for seed in snakemake.config["seeds"]:
            controls = [name for name, seeds in snakemake.params.seeds.items() if seed in seeds]
            output = Path(snakemake.output.predictions) / fold.parent.name / f"seed{seed}"
            predict_by_controls(fold, ceilings, controls, seed, output)
