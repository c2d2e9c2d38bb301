"""Look for leaks from test to training slides in the files of the run."""

import json
from pathlib import Path

from spotwise.evaluation.leak_audit import RunFiles, audit, write_audit
from spotwise.evaluation.leak_checks import Panels
from spotwise.runtime.job import job


def by_sample(paths):
    return dict(zip(snakemake.params.samples, paths, strict=True))


def contents(paths):
    return by_sample([json.loads(Path(path).read_text(encoding="utf-8")) for path in paths])


with job(snakemake.log[0]) as logger:
    scores = {tuple(section): [] for section in snakemake.params.sections}
    for path in snakemake.input.scores:
        scores[Path(path).parts[-3], Path(path).parts[-2]].append(path)
    files, params = snakemake.input, snakemake.params
    run = RunFiles(files.folds, by_sample(files.counts), scores, contents(files.fingerprints), contents(files.qc))
    panels = Panels(params.hvg_per_slide, params.target_sum)
    findings = audit(run, panels, params.markers, params.top, params.external)
    logger.info("%s", findings["status"].value_counts().to_dict())
    write_audit(findings, snakemake.output.csv, snakemake.output.markdown)
