"""Describe the patches of the training slides of a final model, to compare new slides with."""

from pathlib import Path

from spotwise.inference.likeness import describe_cohort
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    params = snakemake.params
    facts = describe_cohort(
        patches=dict(zip(params.samples, map(Path, snakemake.input.patches), strict=True)),
        patients={sample: params.patients[sample] for sample in params.samples},
        output=Path(snakemake.output.reference),
        threads=snakemake.threads,
    )
    logger.info("%s", facts)
