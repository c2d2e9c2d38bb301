"""What the methods of a run cost: wall time of each training, fit and embedding, and what it ran on."""

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
    """Read what the training or fit of one model cost.

    A training notes its time and device in its summary. A fit, which runs on the CPU, does not, so the time in
    Snakemake's benchmark stands in.

    Parameters
    ----------
    summary_json
        The model's summary.
    benchmark_tsv
        The benchmark of the job that made it; read for a fit only, and only where it exists.

    Returns
    -------
    dict
        step; seconds, NaN where not known: a fit without a benchmark, or a training that was interrupted, whose
        summary counts from its last start; device; peak_gpu_gib, NaN without a GPU.

    Raises
    ------
    InputError
        The summary of a training lacks its time or device, or the benchmark its seconds.
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


def embedding_cost(benchmark_tsv: str | os.PathLike) -> dict[str, object]:
    """What embedding one slide cost, as `model_cost` tells it; the device is not noted."""
    return {"step": EMBEDDING, "seconds": benchmark_seconds(benchmark_tsv), "device": "", "peak_gpu_gib": np.nan}


def benchmark_seconds(path: str | os.PathLike) -> float:
    """Wall seconds of a job as Snakemake's benchmark has them; NaN where there is no such file.

    Raises
    ------
    InputError
        The file lacks the column ``s`` or its row.
    """
    if not Path(path).exists():
        return float("nan")
    benchmark = pd.read_csv(path, sep="\t")
    if "s" not in benchmark or benchmark.empty:
        raise InputError(path, "columns", list(benchmark.columns), "s, with a row")
    return float(benchmark["s"].iloc[0])


def read_costs(
    methods: Sequence[str],
    summaries: Sequence[str | os.PathLike],
    benchmarks: Sequence[str | os.PathLike],
    embeddings: Mapping[str, Sequence[str | os.PathLike]],
) -> pd.DataFrame:
    """Read the cost of every training, fit and embedding of a run.

    Parameters
    ----------
    methods, summaries, benchmarks
        For each model: its method, its summary and the benchmark of its job (`model_cost`).
    embeddings
        Encoder -> the benchmark of each slide's embedding.

    Returns
    -------
    DataFrame
        One row per job: name (method or encoder), step, seconds, device, peak_gpu_gib; in the order given.
    """
    models = zip(methods, summaries, benchmarks, strict=True)
    rows = [{"name": method, **model_cost(summary, benchmark)} for method, summary, benchmark in models]
    rows += [{"name": encoder, **embedding_cost(path)} for encoder, paths in embeddings.items() for path in paths]
    return pd.DataFrame(rows, columns=["name", "step", "seconds", "device", "peak_gpu_gib"])


def cost_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Sum up the jobs of each method and encoder.

    Parameters
    ----------
    costs
        As from `read_costs`.

    Returns
    -------
    DataFrame
        name, step, runs, timed (runs whose time is known), seconds_median, seconds_min, seconds_max and hours (in all)
        of the timed runs, NaN where there is none; device (several joined by ``; ``); peak_gpu_gib (highest).
    """
    jobs = costs.groupby(["name", "step"], sort=False)
    seconds = jobs["seconds"]
    return pd.DataFrame(
        {
            "runs": jobs.size(),
            "timed": seconds.count(),
            "seconds_median": seconds.median(),
            "seconds_min": seconds.min(),
            "seconds_max": seconds.max(),
            "hours": seconds.sum(min_count=1) / 3600,
            "device": jobs["device"].agg(lambda names: "; ".join(sorted(set(names)))),
            "peak_gpu_gib": jobs["peak_gpu_gib"].max(),
        }
    ).reset_index()


def write_costs(table: pd.DataFrame, csv: str | os.PathLike) -> None:
    """Write what `read_costs` or `cost_table` returns as CSV, atomically: six significant digits, empty where NaN."""
    write_table(table, csv, float_format="%.6g")


def read_jobs(csv: str | os.PathLike) -> pd.DataFrame:
    """Read again what `read_costs` returned and `write_costs` wrote."""
    numbers = {column: [""] for column in ("seconds", "peak_gpu_gib")}
    return pd.read_csv(csv, keep_default_na=False, na_values=numbers)  # a method may be called NA
