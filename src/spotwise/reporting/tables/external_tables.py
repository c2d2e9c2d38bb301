"""The table of predictions by other tools: what matched, what did not, and the warnings."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pandas as pd

from spotwise.evaluation.averages import SECTION
from spotwise.reporting.tables.layout import Block, Cell, Column, Page, Row, plural

LEGEND = (
    "What the files of other tools held, per test slide. Other spots and other genes, which are not tested, were left "
    "out. Missing: genes of the panel that a file lacks; they are predicted as their training mean, which is constant "
    "and scores 0. In the lists: those of them among the genes that Table 1 averages, which lower its means. Below 0: "
    "values that stand for counts, set to 0. Error: RMSE relative to that of the training mean, median over genes; in "
    "the right units it is near 1."
)
# column -> heading of numbers
COLUMNS = {
    "n_spots": "spots",
    "n_other_spots": "other spots",
    "n_genes": "genes",
    "n_missing_genes": "missing",
    "n_scored_missing": "in the lists",
    "n_scored": "of",
    "n_other_genes": "other genes",
    "n_negative": "below 0",
}


def external_table(paths: Iterable[str | os.PathLike]) -> pd.DataFrame:
    """Join what `external_predictions.import_predictions` says of each tool, cohort and protocol."""
    texts = {"predictor": str, "sample": str, "cohort": str, "warning": str, "trained_on": str, "file": str}
    parts = [pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"relative_rmse": [""]}) for path in paths]
    return pd.concat(parts, ignore_index=True)


def external_page(table: pd.DataFrame) -> Page:
    """Lay out `external_table`, with training slides and warnings as remarks."""
    columns = [Column(heading, numeric=False) for heading in ("Predictor", "Slide")]
    columns += [*map(Column, COLUMNS.values()), Column("error")]
    blocks = []
    for (cohort, protocol), block in table.groupby(SECTION, sort=False):
        rows, remarks = [], []
        for values in block.to_dict("records"):
            numbers = [Cell(f"{values[name]:,}") for name in COLUMNS]
            error = values["relative_rmse"]
            numbers.append(Cell("–" if pd.isna(error) else f"{error:.2f}"))
            rows.append(Row([Cell(values["predictor"]), Cell(values["sample"]), *numbers]))
        for predictor, own in block.groupby("predictor", sort=False):
            remarks.append(f"{predictor}: trained on: {own['trained_on'].iloc[0] or 'not stated'}")
            warned = own[own["warning"].ne("")]
            remarks += [f"{predictor}, {one.sample}: {one.warning}" for one in warned.itertuples()]
        blocks.append(Block(cohort, protocol, columns, rows, remarks, [plural(block["sample"].nunique(), "slide")]))
    return Page("external", "Predictions by other tools", [LEGEND], blocks)
