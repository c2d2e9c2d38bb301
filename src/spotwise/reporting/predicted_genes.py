"""Genes of a slide that was never sequenced: which are shown, and how reliable each is, in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from spotwise.errors import InputError, one_of
from spotwise.reporting.number_format import number

RELIABLE, PANEL, MARKERS = "reliable", "panel", "markers"
UNITS = {"patient": "patients", "slide": "slides"}  # by what the cross-validation leaves out


def choose_genes(var: pd.DataFrame, genes: str | Sequence[str]) -> list[str]:
    """Choose the genes of a prediction that are shown.

    Parameters
    ----------
    var
        Genes with `pcc_low`, `is_marker` and `reliable`.
    genes
        `RELIABLE`, `PANEL` or `MARKERS`, of which the best come first, those whose interval has the highest lower end;
        or symbols, whose order is kept.

    Raises
    ------
    InputError
        The model does not predict a gene that is named.
    """
    if not isinstance(genes, str):
        if unknown := [gene for gene in genes if gene not in var.index]:
            expected = one_of(var.index, unknown[0]) if len(var) <= 20 else _panel_of(var, unknown[0])
            raise InputError("predict.genes", "gene", ", ".join(unknown), expected)
        return list(dict.fromkeys(genes))
    ranked = var.sort_values("pcc_low", ascending=False, na_position="last", kind="stable")
    kept = {
        PANEL: slice(None),
        RELIABLE: ranked["reliable"].to_numpy(bool),
        MARKERS: ranked["is_marker"].to_numpy(bool),
    }
    return ranked.index[kept[genes]].tolist()


def _panel_of(var: pd.DataFrame, unknown: str) -> str:
    _, _, near = one_of(var.index, unknown).partition("; ")
    return f"a gene of the model's panel of {len(var)}" + (f"; {near}" if near else "")


def correlation(row: pd.Series) -> str:
    """Format the PCC of a gene and its interval, such as ``0.41 [0.30, 0.52]``."""
    if pd.isna(row["pcc"]):
        return "not known"
    interval = "" if pd.isna(row["pcc_low"]) else f" [{number(row['pcc_low'])}, {number(row['pcc_high'])}]"
    return number(row["pcc"]) + interval


def judgement(row: pd.Series) -> str:
    """Say whether a gene is reliable."""
    return "reliable" if row["reliable"] else "not reliable"
