"""Predict every test slide of a cohort with every trained model of one method."""

from itertools import product
from pathlib import Path

from spotwise.inference.prediction import predict_test_slides
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    patches = dict(zip(params.samples, map(Path, files.patches), strict=True))
    embeddings = dict(zip(params.embedded, map(Path, files.embeddings), strict=True))
    folds = list(zip(files.folds, files.training_folds, strict=True))
    for weights, ((fold, training_fold), seed) in zip(files.weights, product(folds, params.seeds), strict=True):
        model = Path(weights).parent
        folder = Path(snakemake.output.predictions) / model.parent.name / model.name
        predict_test_slides(
            model=model,
            fold=Path(fold),
            training_fold=Path(training_fold),
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
