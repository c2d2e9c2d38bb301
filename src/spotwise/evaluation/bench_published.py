"""Numbers that the HEST benchmark publishes, matched to our encoders."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from spotwise.models.encoder_names import repository_of

AVERAGE = "average"  # in a column `task`: the mean over the tasks


def read_published_benchmark(folder: str | os.PathLike) -> pd.DataFrame:
    """Read the benchmark's published table, one row per model and task.

    Parameters
    ----------
    folder
        Holds ``published.csv`` and ``readings.csv``.

    Returns
    -------
    DataFrame
        model, as printed; task, or `AVERAGE`; published, the mean Pearson correlation; repository on the Hugging Face
        hub, "" for none; encoder, our name of a model without a repository; remark on what differs.
    """
    printed = pd.read_csv(Path(folder) / "published.csv", keep_default_na=False)
    readings = pd.read_csv(Path(folder) / "readings.csv", keep_default_na=False)
    long = printed.melt(["model", "repository"], var_name="task", value_name="published")
    rows = long.merge(readings, on="model", how="left", validate="many_to_one").fillna({"encoder": "", "remark": ""})
    return rows[["model", "task", "published", "encoder", "repository", "remark"]]


def published_as(published: pd.DataFrame, encoder: str) -> pd.DataFrame:
    """Select the rows of an encoder, by our name of it or ``hf-hub:<its repository>``, in upper or lower case."""
    ours = published["encoder"].ne("") & published["encoder"].str.lower().eq(encoder.lower())
    on_hub = published["repository"].ne("") & published["repository"].str.lower().eq(repository_of(encoder).lower())
    return published[ours | on_hub]


def published_tasks(published: pd.DataFrame) -> set[str]:
    """Return the tasks that the published average is taken over."""
    return set(published["task"]) - {AVERAGE}
