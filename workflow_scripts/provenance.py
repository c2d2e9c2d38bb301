"""Record how the numbers of the run were made."""

from pathlib import Path

from spotwise.data.sample_sheet import read_samples
from spotwise.runtime.files import write_json
from spotwise.runtime.job import job
from spotwise.runtime.provenance import RunFiles, run_record


def by_sample(paths):
    """Map samples to their files; the list is empty where the run has no such files."""
    return dict(zip(samples, paths, strict=True)) if paths else {}


with job(snakemake.log[0]):
    samples = snakemake.params.samples
    sheet = read_samples(snakemake.config["samples"]) if samples else []
    results = Path(snakemake.output.record).parent
    files = RunFiles(
        results=results,
        tables=[
            path for path in (*snakemake.input.tables, *snakemake.input.figures) if Path(path).parent.name == "tables"
        ],
        summaries=snakemake.input.summaries,
        fingerprints=by_sample(snakemake.input.fingerprints),
        downloads=by_sample(snakemake.input.downloads)
        | dict(zip(snakemake.params.bench_tasks, snakemake.input.bench_downloads, strict=True)),
        labels=dict(zip(snakemake.params.labelled, snakemake.input.labels, strict=True)),
        external=dict(zip(snakemake.params.imported, snakemake.input.external, strict=True)),
        slides=dict(zip(snakemake.params.slides, snakemake.input.slides, strict=True)),
    )
    record = run_record(
        snakemake.config, [vars(row) for row in sheet if row.sample in samples], files, snakemake.params.snakemake
    )
    write_json(snakemake.output.record, record)
