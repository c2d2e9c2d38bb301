"""Record what the run was made of: versions, configuration, inputs, hardware and time."""

import json
from pathlib import Path

from spotwise.data.sample_sheet import read_samples
from spotwise.runtime.files import write_json
from spotwise.runtime.job import job
from spotwise.runtime.provenance import run_record


def contents(paths):
    """Contents of JSON files by sample; nothing where there are no files."""
    by_sample = zip(samples, paths, strict=True) if paths else ()
    return {sample: json.loads(Path(path).read_text(encoding="utf-8")) for sample, path in by_sample}


with job(snakemake.log[0]):
    samples = snakemake.params.samples
    sheet = read_samples(snakemake.config["samples"])
    record = run_record(
        snakemake.config,
        [vars(row) for row in sheet if row.sample in samples],
        contents(snakemake.input.fingerprints),
        contents(snakemake.input.downloads),
        Path(snakemake.output.record).parent,
        [path for path in (*snakemake.input.tables, *snakemake.input.figures) if Path(path).parent.name == "tables"],
        snakemake.input.summaries,
        snakemake.params.snakemake,
        dict(zip(snakemake.params.labelled, snakemake.input.labels, strict=True)),
    )
    write_json(snakemake.output.record, record)
