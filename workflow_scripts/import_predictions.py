"""Import the predictions of another tool for all test slides of a cohort."""

from functools import partial
from pathlib import Path

from spotwise.evaluation.gene_sets import scored_genes
from spotwise.inference.external_files import Scale
from spotwise.inference.external_predictions import import_predictions
from spotwise.runtime.files import write_table
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    tested = [sample for _, samples in params.tested for sample in samples]
    facts = import_predictions(
        folds=given.folds,
        files=dict(zip(tested, given.files, strict=True)),
        scale=Scale(params.units, params.target_sum, params.run_target_sum),
        scored=partial(scored_genes, top=params.top),
        tool=snakemake.wildcards.method,
        trained_on=params.trained_on,
        seed=params.seed,
        output=Path(snakemake.output.predictions),
    )
    write_table(facts, snakemake.output.facts)
