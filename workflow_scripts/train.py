"""Train one method on one fold with one seed."""

from pathlib import Path

from spotwise.runtime.job import job
from spotwise.training.loop import TrainingOptions, train

with job(snakemake.log[0]):
    train(
        fold_path=Path(snakemake.input.fold),
        patches=dict(zip(snakemake.params.samples, map(Path, snakemake.input.patches), strict=True)),
        method=snakemake.params.model,
        method_options=snakemake.params.options,
        options=TrainingOptions(
            **snakemake.params.training,
            memory=snakemake.config["training"]["memory"],
            save_every_minutes=snakemake.config["training"]["save_every_minutes"],
        ),
        seed=int(snakemake.wildcards.seed),
        code=snakemake.params.code,
        state_root=Path(snakemake.params.state),
        model=Path(snakemake.output.weights).parent,
        embeddings=dict(zip(snakemake.params.embedded, map(Path, snakemake.input.embeddings), strict=True)),
    )
