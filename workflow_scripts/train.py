"""Train one method on one fold with one seed."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.training.loop import train
from spotwise.training.training_options import TrainingOptions

with job(snakemake.log[0]):
    files, params = snakemake.input, snakemake.params
    train(
        fold_path=Path(files.fold),
        patches=dict(zip(params.samples, map(Path, files.patches), strict=True)),
        method=params.model,
        method_options=params.options,
        preparation=params.preparation,
        options=TrainingOptions(
            **params.training,
            memory=snakemake.config["training"]["memory"],
            save_every_minutes=snakemake.config["training"]["save_every_minutes"],
        ),
        seed=int(snakemake.wildcards.seed),
        code=params.code,
        state_root=Path(params.state),
        model=Path(snakemake.output.weights).parent,
        embeddings=dict(zip(params.embedded, map(Path, files.embeddings), strict=True)),
    )
