"""Look for leaks from test to training slides in the files of the run."""

import json
from pathlib import Path

from spotwise.evaluation.leak_audit import audit, write_audit
from spotwise.runtime.job import job


def by_sample(paths):
    return dict(zip(snakemake.params.samples, paths, strict=True))


def contents(paths):
    return by_sample([json.loads(Path(path).read_text(encoding="utf-8")) for path in paths])


with job(snakemake.log[0]) as logger:
    scores = {tuple(section): [] for section in snakemake.params.sections}
    for path in snakemake.input.scores:
        scores[Path(path).parts[-3], Path(path).parts[-2]].append(path)
    findings = audit(
        snakemake.input.folds,
        by_sample(snakemake.input.counts),
        scores,
        contents(snakemake.input.fingerprints),
        contents(snakemake.input.qc),
        snakemake.params.markers,
        snakemake.params.hvg_per_slide,
        snakemake.params.target_sum,
        snakemake.params.top,
    )
    logger.info("%s", findings["status"].value_counts().to_dict())
    write_audit(findings, snakemake.output.csv, snakemake.output.markdown)
