"""Predict every test slide of a cohort with every trained model of one method."""

from itertools import product
from pathlib import Path

from spotwise.inference.prediction import predict_test_slides
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    patches = dict(zip(params.samples, map(Path, files.patches), strict=True))
    embeddings = dict(zip(params.embedded, map(Path, files.embeddings), strict=True))
    for weights, (fold, seed) in zip(files.weights, product(files.folds, params.seeds), strict=True):
        model = Path(weights).parent
        folder = Path(snakemake.output.predictions) / model.parent.name / model.name
        predict_test_slides(
            model=model,
            fold=Path(fold),
            patches=patches,
            embeddings=embeddings,
            predictors=params.predictors,
            method=snakemake.wildcards.method,
            kind=params.kind,
            seed=seed,
            device=params.device,
            threads=params.threads,
            output=folder,
            bank=folder / "bank.safetensors",
            queries=folder / "queries.safetensors",
        )
