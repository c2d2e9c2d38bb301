"""Join counts and patches of one task of the HEST benchmark."""

from spotwise.data.bench_layout import read_task
from spotwise.data.bench_targets import assemble_targets, write_targets
from spotwise.runtime.files import write_json
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    targets, warnings = assemble_targets(read_task(snakemake.params.root, snakemake.wildcards.task))
    for warning in warnings:
        logger.warning("%s", warning)
    write_targets(snakemake.output.targets, targets)
    write_json(snakemake.output.facts, targets.facts | {"warnings": warnings})
