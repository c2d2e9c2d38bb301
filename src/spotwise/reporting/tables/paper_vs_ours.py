"""Comparison of every published number with ours, as CSV, Markdown and HTML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from spotwise.constants import ALL_COHORTS, PAPER, PATIENT
from spotwise.evaluation.averages import notes_of
from spotwise.evaluation.gene_sets import gene_sets
from spotwise.evaluation.predictor_comparisons import mean_intervals
from spotwise.evaluation.published_numbers import COHORTS, ONE_DONOR, TOP
from spotwise.reporting.templates import render
from spotwise.runtime.files import write_table, write_text

REPRODUCED, LOWER, HIGHER, NOT_RUN = VERDICTS = ("reproduced", "lower", "higher", "not run")
VALUES = ["mean", "ci_low", "ci_high"]
COLUMNS = [
    *("table", "dataset", "model", "genes", "published", "predictor"),
    *(*(f"paper_{value}" for value in VALUES), "paper_width", "verdict"),
    *(f"patient_{value}" for value in VALUES),
    *("other_predictor", *(f"other_{value}" for value in VALUES), "other_verdict", "remark"),
]
TITLES = {
    1: "Table 1: 50 genes and markers",
    2: "Table 2: 150 and 250 genes",
    3: "Table 3: the five best genes of each method",
    4: "Table 4: a pathology foundation model",
    5: "Table 5: ablations, mean over the six cohorts",
}
LEGEND = (
    "Mean Pearson correlation [95 % interval over slides and genes; under the patient protocol, over patients and "
    "genes]. Verdict, under the paper protocol: reproduced: the published number lies in our interval; lower, higher: "
    "our whole interval lies below, above it; not run: this run has no such cohort, predictor or gene.",
    "The paper gives no interval for its numbers, so chance on its side is not counted. A wide interval reproduces "
    "anything: read the width with the verdict. If the interval also holds 0, a predictor without any correlation "
    "would pass as well.",
    "Other reading: if the paper leaves open what a row is, the same number compared with the other candidate.",
)
HEADINGS = ("Dataset", "Row", "Genes", "Published", "Ours", "Paper protocol", "Width", "Verdict", "Patient protocol")
HEADINGS += ("Other reading", "Note")
NUMBERS = ("Published", "Paper protocol", "Width", "Patient protocol")
NOTHING = "–"


def compare(published: pd.DataFrame, scores: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Compare every published number with ours.

    Parameters
    ----------
    published
        As from `read_published_numbers`.
    scores
        Rows with `COMPARED_COLUMNS`, at least those that `averages.read_listed` keeps for the published genes.
    draws
        Bootstrap draws.

    Returns
    -------
    DataFrame
        `COLUMNS`, one row per published number: genes (a gene set, or the gene of Table 3), published, our predictor
        with mean and interval under both protocols (NaN if not run), paper_width of the interval, verdict, the same for
        another reading of the row, and a remark on the ambiguity. Table 5 requires all six cohorts, under `patient`
        those of several donors.
    """
    wanted = scores["predictor"].isin([*published["predictor"], *published["other_predictor"]])
    scores = scores[wanted & scores["cohort"].isin(COHORTS)]
    sets = gene_sets(scores, TOP)
    sets |= {gene: scores["gene"].eq(gene) & scores["is_measured"] for gene in published["gene"].unique() if gene}
    intervals = mean_intervals(scores, sets, draws)
    ran = scores.groupby("protocol")["cohort"].unique()
    defined = {PAPER: {*COHORTS}, PATIENT: {*COHORTS} - {ONE_DONOR}}
    whole = [protocol for protocol, cohorts in ran.items() if defined[protocol] <= {*cohorts}]
    intervals = intervals[intervals["cohort"].ne(ALL_COHORTS) | intervals["protocol"].isin(whole)]
    rows = published.assign(genes=published["gene_set"] + published["gene"]).rename(columns={"pcc": "published"})
    for prefix, protocol, predictor in (
        ("paper", PAPER, "predictor"),
        ("patient", PATIENT, "predictor"),
        ("other", PAPER, "other_predictor"),
    ):
        ours = intervals[intervals["protocol"].eq(protocol)].set_index(["cohort", "predictor", "gene_set"])[VALUES]
        keys = pd.MultiIndex.from_frame(rows[["cohort", predictor, "genes"]])
        rows[[f"{prefix}_{value}" for value in VALUES]] = ours.reindex(keys).to_numpy(float)
    rows["paper_width"] = rows["paper_ci_high"] - rows["paper_ci_low"]
    notes = notes_of(scores, rows["predictor"])
    ran_with = notes.where(rows["paper_mean"].notna() | rows["patient_mean"].notna(), "")
    rows["remark"] = [": ".join(filter(None, pair)) for pair in zip(ran_with, rows["remark"], strict=True)]
    rows["verdict"] = verdicts(rows["published"], rows["paper_ci_low"], rows["paper_ci_high"])
    rows["other_verdict"] = verdicts(rows["published"], rows["other_ci_low"], rows["other_ci_high"])
    return rows[COLUMNS]


def verdicts(published: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """Judge published numbers by our intervals, `NOT_RUN` without an interval."""
    return np.select([low.isna(), high < published, low > published], [NOT_RUN, LOWER, HIGHER], REPRODUCED)


def coverage(table: pd.DataFrame, cohorts: Sequence[str]) -> str:
    """Summarise in one sentence how many published numbers a run covers and reproduces."""
    counts = table["verdict"].value_counts()
    covered = len(table) - counts.get(NOT_RUN, 0)
    outcome = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS[:3])
    ran = f"This run ({', '.join(cohorts)}) covers {covered} of {len(table)} published numbers"
    return f"{ran}: {outcome}." if covered else f"{ran}."


def to_markdown(table: pd.DataFrame, cohorts: Sequence[str]) -> str:
    """Format the comparison as Markdown, with a section per table of the paper."""
    lines = ["# The paper's numbers beside ours", "", coverage(table, cohorts), ""]
    for paragraph in LEGEND:
        lines += [paragraph, ""]
    for section in _sections(table):
        lines += [f"## {section.title}", "", section.summary, "", "| " + " | ".join(HEADINGS) + " |"]
        lines += ["|" + "|".join("---:" if heading in NUMBERS else "---" for heading in HEADINGS) + "|"]
        lines += ["| " + " | ".join(cells.values()) + " |" for cells in section.rows]
        lines += ["", *(f"{number}. {note}" for number, note in enumerate(section.notes, start=1)), ""]
    return "\n".join(lines).rstrip() + "\n"


def to_html(table: pd.DataFrame, cohorts: Sequence[str]) -> str:
    """Render the comparison as a self-contained HTML page, with all text escaped."""
    facts = {"coverage": coverage(table, cohorts), "legend": LEGEND, "headings": HEADINGS, "numbers": NUMBERS}
    return render("paper_vs_ours.html", **facts, sections=_sections(table))


def write(
    table: pd.DataFrame,
    cohorts: Sequence[str],
    csv: str | os.PathLike,
    markdown: str | os.PathLike,
    html: str | os.PathLike,
) -> None:
    """Write the comparison as CSV with six decimals, Markdown and HTML, atomically."""
    write_table(table, csv, float_format="%.6f")
    write_text(markdown, to_markdown(table, cohorts))
    write_text(html, to_html(table, cohorts))


@dataclass(frozen=True)
class Section:
    """One table of the paper, whose rows map headings to texts."""

    title: str
    summary: str
    rows: list[dict[str, str]]
    notes: list[str]


def _sections(table: pd.DataFrame) -> list[Section]:
    sections = []
    for number, block in table.groupby("table"):
        notes = list(filter(None, block["remark"].unique()))
        rows = [_cells(row, notes) for row in block.itertuples()]
        sections.append(Section(TITLES[number], _summary(block), rows, notes))
    return sections


def _summary(block: pd.DataFrame) -> str:
    counts = block["verdict"].value_counts()
    text = f"{len(block)} numbers: " + ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    widths = block["paper_width"].dropna()
    return f"{text}; median width of our intervals {widths.median():.3f}." if len(widths) else f"{text}."


def _cells(row: NamedTuple, notes: Sequence[str]) -> dict[str, str]:
    holds_zero = row.paper_ci_low <= 0 <= row.paper_ci_high
    other = _interval(row.other_mean, row.other_ci_low, row.other_ci_high)
    texts = (
        row.dataset,
        row.model,
        row.genes.replace("_top", " top "),
        f"{row.published:.4f}",
        row.predictor,
        _interval(row.paper_mean, row.paper_ci_low, row.paper_ci_high),
        NOTHING if np.isnan(row.paper_width) else f"{row.paper_width:.3f}" + ", holds 0" * holds_zero,
        row.verdict,
        _interval(row.patient_mean, row.patient_ci_low, row.patient_ci_high),
        NOTHING if other == NOTHING else f"{row.other_predictor}: {other}, {row.other_verdict}",
        str(notes.index(row.remark) + 1) if row.remark else "",
    )
    return dict(zip(HEADINGS, texts, strict=True))


def _interval(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return NOTHING
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
