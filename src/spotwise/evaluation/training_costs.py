"""Wall time and device of each training, fit and embedding of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spotwise.errors import InputError
from spotwise.runtime.files import write_table

TRAINING, FIT, EMBEDDING = "training", "fit", "embedding"
GIB = 2**30


def model_cost(summary_json: str | os.PathLike, benchmark_tsv: str | os.PathLike) -> dict[str, object]:
    """Read step, seconds, device and peak_gpu_gib of the training or fit of one model.

    A training writes them into its summary, but an interrupted one counts from its last start, so its seconds are NaN.
    A fit runs on the CPU, and its time comes from Snakemake's benchmark of the job, NaN without one.
    """
    summary = json.loads(Path(summary_json).read_text(encoding="utf-8"))
    if "started_times" not in summary:
        return {"step": FIT, "seconds": benchmark_seconds(benchmark_tsv), "device": "cpu", "peak_gpu_gib": np.nan}
    if missing := [key for key in ("seconds", "device", "peak_gpu_memory_bytes") if key not in summary]:
        raise InputError(summary_json, "keys", sorted(summary), "also " + ", ".join(missing))
    peak = summary["peak_gpu_memory_bytes"]
    return {
        "step": TRAINING,
        "seconds": summary["seconds"] if summary["started_times"] == 1 else np.nan,
        "device": summary["device"],
        "peak_gpu_gib": np.nan if peak is None else peak / GIB,
    }


def benchmark_seconds(path: str | os.PathLike) -> float:
    """Read a job's wall seconds from Snakemake's benchmark, NaN without that file."""
    if not Path(path).exists():
        return float("nan")
    benchmark = pd.read_csv(path, sep="\t")
    if "s" not in benchmark or benchmark.empty:
        raise InputError(path, "columns", list(benchmark.columns), "s, with a row")
    return float(benchmark["s"].iloc[0])


def collect_job_costs(
    methods: Sequence[str],
    summaries: Sequence[str | os.PathLike],
    benchmarks: Sequence[str | os.PathLike],
    embeddings: Mapping[str, Sequence[str | os.PathLike]],
) -> pd.DataFrame:
    """Collect the cost of every training, fit and embedding of a run, a row per job.

    Models have a method, a summary and the benchmark of their job each. ``embeddings`` are the benchmarks of an
    encoder's slides, whose device is not recorded. Columns are name (method or encoder), step, seconds, device and
    peak_gpu_gib (NaN without a GPU).

    Raises
    ------
    InputError
        The summary of a training lacks its time or device, or the benchmark its seconds.
    """
    models = zip(methods, summaries, benchmarks, strict=True)
    rows = [{"name": method, **model_cost(summary, benchmark)} for method, summary, benchmark in models]
    rows += [
        {"name": encoder, "step": EMBEDDING, "seconds": benchmark_seconds(path), "device": "", "peak_gpu_gib": np.nan}
        for encoder, paths in embeddings.items()
        for path in paths
    ]
    return pd.DataFrame(rows, columns=["name", "step", "seconds", "device", "peak_gpu_gib"])


def cost_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Summarise the jobs (from `collect_job_costs`) of each method and encoder.

    Returns
    -------
    DataFrame
        name, step, runs, timed (runs with a known time), seconds_median, seconds_min, seconds_max and hours (total) of
        the timed runs, NaN without any; device (several joined by ``; ``); peak_gpu_gib (highest).
    """
    jobs = costs.groupby(["name", "step"], sort=False)
    table = jobs.agg(
        runs=("seconds", "size"),
        timed=("seconds", "count"),
        seconds_median=("seconds", "median"),
        seconds_min=("seconds", "min"),
        seconds_max=("seconds", "max"),
        hours=("seconds", lambda seconds: seconds.sum(min_count=1) / 3600),
        device=("device", lambda names: "; ".join(sorted(set(names)))),
        peak_gpu_gib=("peak_gpu_gib", "max"),
    )
    return table.reset_index()


def write_costs(table: pd.DataFrame, csv: str | os.PathLike) -> None:
    """Write `collect_job_costs` or `cost_table` as CSV with six significant digits."""
    write_table(table, csv, float_format="%.6g")
