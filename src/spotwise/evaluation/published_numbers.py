"""Numbers published in the CMRCNet paper, matched to our cohorts and predictors."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from spotwise.constants import ALL_COHORTS

TABLES = (1, 2, 3, 4, 5)
COHORTS = ("IDC-LymphNode", "SKCM", "READ", "COAD", "IDC", "PSC")
ONE_DONOR = "PSC"  # no patient can be left out
TOP = (50, 150, 250)  # sizes of the gene lists in Tables 1 and 2
COLUMNS = ["table", "dataset", "model", "gene_set", "gene", "rank", "k", "pcc"]  # as printed
COLUMNS += ["cohort", "predictor", "other_predictor", "remark"]  # ours

TABLE_REMARKS = {
    3: "one of the five best of its method, so rather high; the paper does not say on which slides: all slides here",
    5: "patient protocol: without PSC, whose slides are of one donor",
}


def read_published_numbers(folder: str | os.PathLike) -> pd.DataFrame:
    """Read Tables 1 to 5 of the paper, one row per number, with our reading of each row.

    The folder holds ``table1.csv`` to ``table5.csv`` and ``readings.csv``.

    Returns
    -------
    DataFrame
        table (1 to 5); dataset and model, the row as printed (Table 5: "all cohorts", and loss, rate, modality);
        gene_set (named as in `gene_sets.gene_set_columns`) or gene and rank (Table 3), "" and 0 where absent; k, the
        number of retrieved spots, 0 without retrieval; pcc. Ours: cohort ("all cohorts" in Table 5), predictor,
        other_predictor ("" or the alternative reading of an ambiguous row) and remark, which explains the ambiguity.
    """
    tables = [pd.read_csv(Path(folder) / f"table{n}.csv", dtype=str, keep_default_na=False) for n in TABLES]
    tables[-1] = _long_ablations(tables[-1])
    rows = pd.concat(tables, keys=TABLES, names=["table", None]).reset_index("table").reset_index(drop=True)
    rows = rows.fillna({"gene_set": "", "gene": "", "rank": "0"})
    rows["k"] = rows["top_k"].replace("", "0")
    rows = rows.astype({"pcc": float, "rank": int, "k": int}).assign(cohort=rows["dataset"])
    readings = pd.read_csv(Path(folder) / "readings.csv", index_col="model", keep_default_na=False)
    printed = rows[["table", "model", "k"]].itertuples(index=False, name=None)
    rows[["predictor", "other_predictor", "remark"]] = [_reading(readings, *row) for row in printed]
    return rows[COLUMNS]


def _long_ablations(table: pd.DataFrame) -> pd.DataFrame:
    """Reshape Table 5 to one row per number, named by its settings."""
    settings = ["reconstruction_loss", "mask_rate", "reconstructed_modality"]
    model = [", ".join(filter(None, row)) for row in table[settings].itertuples(index=False, name=None)]
    table = table.drop(columns=settings).assign(dataset=ALL_COHORTS, model=model)
    long = table.set_index(["dataset", "model", "top_k"]).rename_axis(columns="gene_set").stack()
    return long.rename("pcc").reset_index()


def _reading(readings: pd.DataFrame, table: int, model: str, k: int) -> tuple[str, str, str]:
    name, other, why = readings.loc[model if model in readings.index else model.partition("-")[0]]
    if k:
        name, other = f"{name}-{k}", f"{other}-{k}" if other else ""
    return name, other, "; ".join(filter(None, [why, TABLE_REMARKS.get(table)]))
