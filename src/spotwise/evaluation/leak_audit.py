"""Leak audit of a finished run, and its report.

Leaks that the paper's protocol prescribes are counted, and never reported as clean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from spotwise.data.folds import read_fold
from spotwise.evaluation import leak_checks
from spotwise.evaluation.leak_checks import ALL, LEAK, WARNING, Finding, Panels
from spotwise.runtime.files import write_table, write_text


@dataclass(frozen=True)
class RunFiles:
    """Files of a finished run that the audit reads.

    ``folds`` go cohort by cohort; ``counts`` are cleaned counts by sample, ``scores`` are by cohort and protocol, and
    ``fingerprints`` and ``qc`` are contents of files by sample, in the order of the sample sheet.
    """

    folds: Sequence[str | os.PathLike]
    counts: Mapping[str, str | os.PathLike]
    scores: Mapping[tuple[str, str], Sequence[str | os.PathLike]]
    fingerprints: Mapping[str, Mapping]
    qc: Mapping[str, Mapping]


def audit(
    run: RunFiles,
    panels: Panels,
    markers: Mapping[str, Sequence[str]],
    top: int,
    trained_on: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Check a finished run for leaks.

    ``panels`` selects gene panels with the settings of the run; ``markers`` are by cohort; ``top`` is the length of the
    HEG and HVG lists; ``trained_on`` says what is stated of the training slides of each tool whose predictions were
    imported. The table has a row per `Finding`: first those of the run, then each cohort's, then each fold's.
    """
    twins = list(leak_checks.find_twins(run.fingerprints))
    slides: dict[str, tuple[str, str]] = {}  # sample -> cohort, patient
    of_folds: list[Finding] = []
    ranks = {section: leak_checks.read_ranks(paths, top) for section, paths in run.scores.items()}
    read = run.scores if trained_on else {}
    external = {section: leak_checks.read_external_scores(paths) for section, paths in read.items()}
    for path in run.folds:
        fold = read_fold(path)
        slides |= {sample: (fold.cohort, patient) for sample, patient in zip(fold.sample, fold.patient, strict=True)}
        panels.enter(fold.cohort, {name: run.counts[name] for name in sorted(set(fold.sample))}, markers[fold.cohort])
        of_folds += [
            leak_checks.shared_patients(fold),
            leak_checks.shared_rows(fold),
            leak_checks.separated_twins(fold, twins),
            leak_checks.panel_source(fold, panels),
            leak_checks.ranking_source(fold, ranks[fold.cohort, fold.protocol]),
            leak_checks.checkpoint_source(fold),
        ]
        if len(scores := external.get((fold.cohort, fold.protocol), ())):
            of_folds.append(leak_checks.external_truth(fold, scores))
    of_twins = leak_checks.twin_findings(twins, run.fingerprints, slides)
    of_tissue = leak_checks.tissue_findings(run.fingerprints, run.qc, slides)
    of_tools = [
        leak_checks.external_training(*section, scores["predictor"].unique(), trained_on)
        for section, scores in external.items()
        if len(scores)
    ]
    return pd.DataFrame([*of_twins, *of_tissue, *of_tools, *of_folds])


LEGEND = (
    "Information that could have passed from the test slides to the training, checked in the files of the run itself. "
    "*clean*: checked and not found. *by design*: found, and prescribed by the protocol. *leak*: the scores of these "
    "folds are not valid. *warning*: should be inspected. *not checked*: with the reason. The training data of "
    "pretrained encoders and of other tools are not checked. Details of every fold are in `leaks.csv`."
)


def write_audit(findings: pd.DataFrame, csv: str | os.PathLike, markdown: str | os.PathLike) -> None:
    """Write the findings as CSV and as Markdown, atomically."""
    write_table(findings, csv)
    write_text(markdown, to_markdown(findings))


def to_markdown(findings: pd.DataFrame) -> str:
    """Format the findings as Markdown, leaks and warnings first."""
    alarming = findings[findings["status"].isin([LEAK, WARNING])]
    lines = ["# Leak audit", "", LEGEND, ""]
    lines += ["Neither a leak nor a warning."] if alarming.empty else ["## Leaks and warnings", ""]
    lines += [
        f"* {_plain(f'{row.cohort}, {row.protocol}, fold {row.fold}: {row.check} ({row.n}): {row.detail}')}"
        for row in alarming.itertuples()
    ]
    for (cohort, protocol), rows in findings.groupby(["cohort", "protocol"], sort=False):
        where = [part for part in (cohort, protocol) if part != ALL] or ["the whole run"]
        lines += ["", f"## {', '.join(map(_plain, where))}", "", *_markdown_table(rows)]
    return "\n".join(lines) + "\n"


def _markdown_table(rows: pd.DataFrame) -> list[str]:
    """Format one row per check and status, with all of its folds."""
    lines = ["| Check | Status | Folds | n | Detail |", "|---|---|---|---:|---|"]
    order = {check: place for place, check in enumerate(rows["check"].unique())}
    for (check, status), same in sorted(rows.groupby(["check", "status"]), key=lambda found: order[found[0][0]]):
        n = "-".join(map(str, sorted({same["n"].min(), same["n"].max()})))
        detail = same["detail"].iloc[0]
        if detail and len(same) > 1:
            detail = f"fold {same['fold'].iloc[0]}: {detail}; ..."
        cells = [check, status, ", ".join(same["fold"]), n, detail]
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    return lines


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
