"""The table of samples: what each slide holds, what was dropped, and the warnings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from spotwise.reporting.tables.layout import Block, Cell, Column, Page, Row, plural

LEGEND = (
    "Spots and features as they were read, and what cleaning dropped (samples/<sample>/qc.json has the details). "
    "Counts and genes are medians over the kept spots. Warnings stand below each cohort: read them before the scores."
)
# column -> heading of numbers
COLUMNS = {
    "n_spots_in": "spots read",
    "n_spots_kept": "kept",
    "n_spots_without_patch": "without patch",
    "n_genes": "genes",
    "um_per_px": "µm/px",
    "median_counts": "median counts",
    "median_genes": "median genes",
    "n_controls_dropped": "controls dropped",
    "n_other_types_dropped": "other features dropped",
    "n_unnamed_dropped": "unnamed dropped",
    "n_features_merged": "merged",
    "n_warnings": "warnings",
}
SEPARATOR = " | "


def sample_table(sheet: Sequence[Mapping[str, str]], qc: Sequence[str | os.PathLike]) -> pd.DataFrame:
    """Make a table with one row per sample.

    ``sheet`` has sample, cohort, patient and technology of each sample, ``qc`` its ``qc.json`` in the same order.
    Columns are those of the sheet, `COLUMNS`, and ``warnings``, separated by `SEPARATOR`.
    """
    rows = []
    for described, path in zip(sheet, qc, strict=True):
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        others = sum(kind["n_features"] for kind in facts["other_types_dropped"].values())
        numbers = facts | {
            "n_genes": facts["n_genes_kept"],
            "n_other_types_dropped": others,
            "n_warnings": len(facts["warnings"]),
        }
        rows.append(
            {
                **described,
                **{name: numbers.get(name) for name in COLUMNS},
                "warnings": SEPARATOR.join(facts["warnings"]),
            }
        )
    return pd.DataFrame(rows)


def samples_page(table: pd.DataFrame) -> Page:
    """Lay out `sample_table`, with the warnings as remarks."""
    columns = [Column(heading, numeric=False) for heading in ("Sample", "Patient", "Technology")]
    columns += [Column(heading) for heading in COLUMNS.values()]
    blocks = []
    for cohort, block in table.groupby("cohort", sort=False):
        rows, warnings = [], []
        for values in block.to_dict("records"):
            cells = [Cell(values["sample"]), Cell(values["patient"]), Cell(values["technology"] or "–")]
            rows.append(Row([*cells, *(Cell(_number(values[name])) for name in COLUMNS)]))
            warnings += [f"{values['sample']}: {text}" for text in filter(None, values["warnings"].split(SEPARATOR))]
        blocks.append(Block(cohort, "", columns, rows, warnings or ["No warning"], [plural(len(block), "sample")]))
    return Page("samples", "Samples", [LEGEND], blocks)


def _number(value: float | None) -> str:
    return "–" if pd.isna(value) else f"{value:.4g}" if value < 10 else f"{value:,.0f}"
