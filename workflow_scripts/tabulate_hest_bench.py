"""Set the scores of the HEST benchmark beside the published ones."""

import json
from pathlib import Path

import pandas as pd

from spotwise.evaluation.bench_published import read_published_benchmark
from spotwise.reporting.tables.bench_table import bench_page, bench_table
from spotwise.reporting.tables.layout import write_pages
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    files, params, output = snakemake.input, snakemake.params, snakemake.output
    scores = {
        tuple(reversed(run.split("/"))): pd.read_parquet(path)
        for run, path in zip(params.runs, files.scores, strict=True)
    }
    facts = {
        task: json.loads(Path(path).read_text(encoding="utf-8"))
        for task, path in zip(params.tasks, files.facts, strict=True)
    }
    table = bench_table(scores, facts, read_published_benchmark(Path(files.published).parent))
    write_pages(table, [bench_page(table)], output.hest_bench, output.hest_bench_md)
