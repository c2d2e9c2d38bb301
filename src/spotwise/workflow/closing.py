"""What a run says at its end: where its results are, and what to know before they are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from spotwise.workflow.plan import Plan
from spotwise.workflow.predict_plan import PredictPlan


def results_of(plan: Plan, configfiles: Iterable[str]) -> list[str]:
    """Say where tables, figures and report are, as far as they exist, and how many samples have warnings.

    ``configfiles`` are those of the run, for the command that makes the report.
    """
    results, lines = Path(plan.results), []
    if plan.tables and (results / "tables/table1.md").exists():
        lines.append(f"Tables:   {results}/tables/ (table1.md first, then leaks.md)")
    if "hest_bench" in plan.config and (results / "tables/hest_bench.md").exists():
        lines.append(f"HEST benchmark: {results}/tables/hest_bench.md")
    if (results / "figures").is_dir():
        lines.append(f"Figures:  {results}/figures/")
    if lines:
        report = results / "report.zip"
        options = "".join(f" --configfile {path}" for path in configfiles)
        lines.append(f"Report:   {report}, from: snakemake{options} --report {report}")
    if warned := [sample for sample in plan.samples if _warnings(results, sample)]:
        number = sum(_warnings(results, sample) for sample in warned)
        where = (
            f"{results}/tables/samples.md"
            if (results / "tables/samples.md").exists()
            else f"{results}/samples/*/qc.json"
        )
        lines.append(f"Warnings: {number} about the data of {len(warned)} of {len(plan.samples)} samples: {where}")
    if plan.external and (results / "tables/external.csv").exists():
        with (results / "tables/external.csv").open(encoding="utf-8", newline="") as file:
            doubted = [row["predictor"] for row in csv.DictReader(file) if row["warning"]]
        if doubted:
            slides = f"{len(doubted)} slides predicted by {', '.join(dict.fromkeys(doubted))}"
            lines.append(f"Warnings: about {slides}: {results}/tables/external.md")
    return lines


def slides_of(predict: PredictPlan) -> tuple[list[str], list[str]]:
    """Say where each predicted slide is summed up, and which slides are unlike those that a model has learnt from.

    Returns
    -------
    lines, warnings
        One for each slide that has a summary, and one for each slide and cohort that differ.
    """
    lines, warnings = [], []
    for slide in predict.slides:
        folder = Path(predict.plan.results) / "predict" / slide
        if (folder / "summary.html").exists():
            lines.append(f"Slide:    {folder}/summary.html")
        for cohort in predict.cohorts:
            path = folder / "likeness" / f"{cohort}.json"
            verdict = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"alike": True}
            if not verdict["alike"]:
                warnings.append(f"{slide} IS UNLIKE the training slides of {cohort}: {'; '.join(verdict['words'])}")
    return lines, warnings


def random_weights(plan: Plan) -> str:
    """Name the methods that began from random weights in place of pretrained ones, ``""`` for none."""
    found = {}
    for model, method in plan.models.items():
        path = Path(plan.results) / "models" / model / "model.json"
        description = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if description.get("fell_back"):
            found.setdefault(str(description["encoder"]), {})[method] = None
    encoders = "; ".join(f"{encoder} ({', '.join(methods)})" for encoder, methods in found.items())
    remedy = "set pretrained: required to stop instead"
    return (
        f"RANDOM WEIGHTS in place of pretrained ones, which were not available: {encoders}; {remedy}" if found else ""
    )


def _warnings(results: Path, sample: str) -> int:
    path = results / "samples" / sample / "qc.json"
    return len(json.loads(path.read_text(encoding="utf-8")).get("warnings", ())) if path.exists() else 0
