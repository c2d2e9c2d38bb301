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

# Row as printed -> our predictor, an alternative reading of the row, and its reason; K is added to both
READINGS = {
    "STNet": ("STNet", "STNet-original", "settings not published: CMRCNet's optimiser; other reading: its authors'"),
    "HisToGene": ("HisToGene", "", "settings not published"),
    "BLEEP": (
        "BLEEP-ViT",
        "BLEEP",
        "its means equal the contrastive-only row of Table 5, so most likely CMRCNet's encoder under BLEEP's loss; "
        "other reading: BLEEP as its authors have it, with a ResNet50",
    ),
    "CMRCNet": (
        "CMRCNet",
        "CMRCNet-paper",
        "as in the released code; other reading: as in the paper's text (12 blocks, 12 heads, SELU, summed terms)",
    ),
    "cTransPath": (
        "CTransPath",
        "CTransPath-Ridge",
        "fine-tuned; other reading: frozen features and ridge; the paper does not say which",
    ),
}
# The same for the rows of Table 5: loss, masking rate, reconstructed modality
_RATE = (
    "the released code's rate is the share that is kept, so that the rows 0.3 and 0.7 may have been exchanged; other "
    "reading: the exchanged row"
)
_COSINE = "the paper names this loss without an equation: 1 - cosine here"
_EXPRESSION = "the paper names this variant only: the mirror of the image branch here"
ABLATIONS = {
    "contrastive only": (
        "CMRCNet-contrastive",
        "BLEEP-ViT",
        "other reading: the BLEEP row of Table 1, whose means it equals",
    ),
    "cosine, 0.3, Image": ("CMRCNet-cosine-mask30", "CMRCNet-cosine-mask70", f"{_COSINE}; {_RATE}"),
    "cosine, 0.5, Image": ("CMRCNet-cosine-mask50", "", _COSINE),
    "cosine, 0.7, Image": ("CMRCNet-cosine-mask70", "CMRCNet-cosine-mask30", f"{_COSINE}; {_RATE}"),
    "cosine, 0.5, Spatial Transcription": ("CMRCNet-cosine-expression", "", f"{_COSINE}; {_EXPRESSION}"),
    "MSE, 0.3, Image": ("CMRCNet-mask30", "CMRCNet-mask70", _RATE),
    "MSE, 0.5, Image": ("CMRCNet", "CMRCNet-paper", READINGS["CMRCNet"][2]),
    "MSE, 0.7, Image": ("CMRCNet-mask70", "CMRCNet-mask30", _RATE),
    "MSE, 0.5, Spatial Transcription": ("CMRCNet-expression", "", _EXPRESSION),
}
TABLE_REMARKS = {
    3: "one of the five best of its method, so rather high; the paper does not say on which slides: all slides here",
    5: "patient protocol: without PSC, whose slides are of one donor",
}


def read_published_numbers(folder: str | os.PathLike) -> pd.DataFrame:
    """Read Tables 1 to 5 of the paper from ``table1.csv`` to ``table5.csv``, one row per number.

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
    readings = [_reading(*row) for row in rows[["table", "model", "k"]].itertuples(index=False, name=None)]
    rows[["predictor", "other_predictor", "remark"]] = readings
    return rows[COLUMNS]


def _long_ablations(table: pd.DataFrame) -> pd.DataFrame:
    """Reshape Table 5 to one row per number, named by its settings."""
    settings = ["reconstruction_loss", "mask_rate", "reconstructed_modality"]
    model = [", ".join(filter(None, row)) for row in table[settings].itertuples(index=False, name=None)]
    table = table.drop(columns=settings).assign(dataset=ALL_COHORTS, model=model)
    long = table.set_index(["dataset", "model", "top_k"]).rename_axis(columns="gene_set").stack()
    return long.rename("pcc").reset_index()


def _reading(table: int, model: str, k: int) -> tuple[str, str, str]:
    name, other, why = ABLATIONS.get(model) or READINGS[model.partition("-")[0]]
    if k:
        name, other = f"{name}-{k}", f"{other}-{k}" if other else ""
    return name, other, "; ".join(filter(None, [why, TABLE_REMARKS.get(table)]))
