"""Tables of a slide's structure and expression of its spots."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd


def spot_expression(lognorm_h5ad: str | os.PathLike, barcodes: Sequence[str], genes: Sequence[str]) -> pd.DataFrame:
    """Read the log-normalised expression of spots, without genes that the slide lacks."""
    import anndata  # half a second, and not needed to read tables

    content = anndata.read_h5ad(lognorm_h5ad)
    return content[list(barcodes), [gene for gene in genes if gene in content.var_names]].to_df()


def read_structure_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read a table of a slide's structure, where a gene or barcode may be called NA or null."""
    text = dict.fromkeys(("cohort", "sample", "space", "clustering", "barcode", "gene"), str)
    header = pd.read_csv(path, sep="\t", nrows=0).columns
    numbers = [name for name in header if name not in text]
    return pd.read_csv(
        path, sep="\t", dtype=text, keep_default_na=False, na_values={name: ["", "nan"] for name in numbers}
    )
