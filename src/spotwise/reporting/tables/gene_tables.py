"""Tables of single genes: best-correlated genes (Table 3) and markers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from spotwise.constants import CONTROL
from spotwise.evaluation.averages import RUN_FACTS, SECTION
from spotwise.reporting.tables import remarks
from spotwise.reporting.tables.layout import (
    ASIDE,
    BEST,
    RANKS,
    SECOND,
    Block,
    Cell,
    Column,
    Page,
    Row,
    best_marks,
    mean_cell,
    plural,
    run_counts,
)

N_BEST = 5
PLACES = ("1st", "2nd", "3rd", "4th", "5th")

PCC = ["pcc", "pcc_sd_folds", "pcc_sd_seeds", "n_constant", "n_slides"]
# status in markers.tsv of a marker outside the panel, before the slides that lack it (`select_genes`)
NOT_MEASURED = "not measured in "


# --- Contents


def table3(genes: pd.DataFrame) -> pd.DataFrame:
    """Select the five best-correlated genes of each method (the paper's Table 3).

    ``genes`` is as returned by `averages.gene_table`, in display order.

    Returns
    -------
    DataFrame
        Five rows for each cohort, protocol and method, taken from the first predictor of the method: cohort, protocol,
        method, predictor, kind, rank, gene, pcc and its spreads, n_constant, n_slides; n_methods that have the gene
        among their five, of of_methods (without controls); n_candidates; n_folds, n_seeds, k, k_used_min, note.

        Candidates are genes that are highly variable in every fold's panel and measured on every test slide. Means over
        fewer slides spread more, and would provide the highest values. Genes that are constant on all slides have no
        correlation and are left out. If fewer than five genes remain, ``gene`` is empty. Ties at six decimals are
        ordered by name.
    """
    first = genes.drop_duplicates([*SECTION, "method"])[[*SECTION, "predictor"]]
    groups = genes.merge(first, on=[*SECTION, "predictor"]).groupby([*SECTION, "predictor"], sort=False)
    table = pd.concat([_best_genes(rows) for _, rows in groups], ignore_index=True)
    methods = table[table["kind"].ne(CONTROL)]
    sharing = methods[methods["gene"].ne("")].groupby([*SECTION, "gene"]).size().rename("n_methods")
    table = table.join(sharing, on=[*SECTION, "gene"])
    table = table.join(methods.groupby(SECTION)["method"].nunique().rename("of_methods"), on=SECTION)
    counts = ["n_methods", "of_methods"]
    table[counts] = table[counts].fillna(0).astype(int)
    table["n_slides"] = table["n_slides"].astype("Int64")
    columns = [*SECTION, "method", "predictor", "kind", "rank", "gene", *PCC, *counts, "n_candidates"]
    return table[[*columns, *RUN_FACTS, "note"]]


def _best_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """Rank the best genes of one predictor, with empty rows if there are too few."""
    candidates = genes[genes["n_ranked"].eq(genes["of_slides"])]
    varying = candidates[candidates["n_constant"].lt(candidates["n_slides"])]
    order = varying.assign(place=-varying["pcc"].round(6)).sort_values(["place", "gene"]).index[:N_BEST]
    best = varying.loc[order, ["gene", *PCC]].reset_index(drop=True).reindex(range(N_BEST))
    run = genes.iloc[0][[*SECTION, "method", "predictor", "kind", *RUN_FACTS, "note"]].to_dict()
    return best.assign(gene=best["gene"].fillna(""), rank=best.index + 1, n_candidates=len(candidates), **run)


def marker_table(
    genes: pd.DataFrame,
    listed: Mapping[str, Sequence[str]],
    lacking: Mapping[tuple[str, str, str], Iterable[str]],
) -> pd.DataFrame:
    """Collect the scores of every marker gene (the paper's Supplementary Tables 1 to 6).

    ``genes`` is as returned by `averages.gene_table`, in display order. ``listed`` maps a cohort to its configured
    marker genes. ``lacking`` is as returned by `lacking_slides`.

    Returns
    -------
    DataFrame
        A row for each cohort, protocol, marker and predictor: cohort, protocol, gene, predictor, kind, pcc and its
        spreads, n_constant, n_slides with a score, of of_slides; n_folds, n_seeds, k, k_used_min, note; ``reason`` for
        slides without a score. A marker without any score has one row without a predictor.
    """
    tables = []
    for (cohort, protocol), rows in genes.groupby(SECTION, sort=False):
        of_slides = rows["of_slides"].max()
        for marker in listed.get(cohort, ()):
            scored = rows[rows["gene"].eq(marker) & rows["n_slides"].gt(0)]
            if scored.empty:
                scored = rows[:1].assign(gene=marker, predictor="", kind="", note="", n_constant=0, n_slides=0)
                scored[["pcc", "pcc_sd_folds", "pcc_sd_seeds"]] = float("nan")
            without = sorted(lacking.get((cohort, protocol, marker), ()))
            tables.append(scored.assign(reason=_reason(scored["n_slides"].max(), of_slides, without)))
    columns = [*SECTION, "gene", "predictor", "kind", *PCC, "of_slides", *RUN_FACTS, "note", "reason"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _reason(n_slides: int, of_slides: int, without: Sequence[str]) -> str:
    if n_slides == of_slides:
        return ""
    if len(without) == of_slides:
        return "no slide has a gene of this name"
    return f"scored on {n_slides} of {of_slides} slides; not measured on {', '.join(without)}"


def lacking_slides(paths: Iterable[str | os.PathLike]) -> dict[tuple[str, str, str], set[str]]:
    """Collect the slides that lack a marker, by (cohort, protocol, marker).

    ``paths`` are ``folds/<cohort>/<protocol>/fold<n>/markers.tsv`` of all folds. Each lists the slides that its panel
    was chosen from; together they cover all slides.
    """
    lacking = {}
    for path in map(Path, paths):
        cohort, protocol = path.parts[-4:-2]
        for row in pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).itertuples():
            if row.status.startswith(NOT_MEASURED):
                slides = lacking.setdefault((cohort, protocol, row.marker), set())
                slides.update(row.status.removeprefix(NOT_MEASURED).split(", "))
    return lacking


# --- Layout


def page3(table: pd.DataFrame) -> Page:
    """Lay out `table3` with a row per method and a column per rank."""
    legend = (
        "The genes with the highest Pearson correlation across the spots of a test slide, averaged over slides, then "
        "folds and seeds; ± is the standard deviation over folds. Genes among the five of all methods in ",
        Cell("bold", BEST),
        ", of more than half of the methods ",
        Cell("underlined", SECOND),
        "; a configured variant of a method counts as a method. The genes were selected by their result on the test "
        "slides, so the correlations are optimistic, and chance alone raises the best of many genes: they show which "
        "genes can be predicted, not which method is better. ",
        ASIDE,
    )
    columns = [Column("Predictor", numeric=False), *(Column(place, numeric=False) for place in PLACES)]
    blocks = []
    for (cohort, protocol), block in table.groupby(SECTION, sort=False):
        rows = [_row_of_best(name, rows) for name, rows in block.groupby("predictor", sort=False)]
        blocks.append(Block(cohort, protocol, columns, rows, list(_remarks_on_best(block)), run_counts(block)))
    return Page("table3", "best-correlated genes", legend, blocks, number="Table 3")


def _row_of_best(predictor: str, rows: pd.DataFrame) -> Row:
    aside = rows["kind"].eq(CONTROL).any()
    cells = [remarks.name_cell(predictor, rows["note"].iloc[0])]
    for row in rows.itertuples():
        mark = ""
        if not aside and row.of_methods > 1:
            mark = BEST if row.n_methods == row.of_methods else SECOND if 2 * row.n_methods > row.of_methods else ""
        number = mean_cell(row.pcc, row.pcc_sd_folds)
        cells.append(Cell(row.gene, mark, f" {number.text}{number.after}") if row.gene else number)
    return Row(cells, aside)


def _remarks_on_best(block: pd.DataFrame) -> Iterator[str]:
    fewest = block["n_candidates"].min()
    yield f"Selected from {plural(fewest, 'gene')}: those of every fold's panel that every test slide measures"
    if none := [name for name, rows in block.groupby("predictor", sort=False) if rows["gene"].eq("").all()]:
        yield f"{', '.join(none)}: no gene varies on any slide"
    yield from _remarks_on_runs(block)


def markers_page(table: pd.DataFrame) -> Page:
    """Lay out `marker_table` with a row per predictor and a column per scored marker."""
    legend = (
        "Pearson correlation of each marker gene across the spots of a test slide, averaged over slides, then folds "
        "and seeds; ± is the standard deviation over folds. Constant: mean number per slide, of the scored markers, "
        "whose prediction or truth does not vary; they score 0. ",
        *RANKS,
    )
    blocks = []
    for (cohort, protocol), block in table.groupby(SECTION, sort=False):
        scored = block[block["predictor"].ne("")]
        markers = list(dict.fromkeys(scored["gene"]))
        marks = {row: mark for _, rows in scored.groupby("gene") for row, mark in best_marks(rows, "pcc").items()}
        rows = [_row_of_markers(name, rows, markers, marks) for name, rows in scored.groupby("predictor", sort=False)]
        columns = [Column("Predictor", numeric=False), *map(Column, markers), Column("constant", detail=True)]
        missing = block[block["reason"].ne("")].drop_duplicates("gene")
        lines = [*(f"{row.gene}: {row.reason}" for row in missing.itertuples()), *_remarks_on_runs(scored)]
        blocks.append(Block(cohort, protocol, columns, rows, lines, run_counts(block)))
    return Page("markers", "Marker genes", legend, blocks, "No marker genes are configured.")


def _row_of_markers(predictor: str, rows: pd.DataFrame, markers: Sequence[str], marks: Mapping[int, str]) -> Row:
    cells = {row.gene: mean_cell(row.pcc, row.pcc_sd_folds, marks.get(row.Index, "")) for row in rows.itertuples()}
    constant, scored = (rows[column].sum() / rows["of_slides"].max() for column in ("n_constant", "n_slides"))
    numbers = [cells.get(marker, Cell("–")) for marker in markers]
    name = remarks.name_cell(predictor, rows["note"].iloc[0])
    return Row([name, *numbers, Cell(f"{constant:.4g} of {scored:.4g}")], rows["kind"].eq(CONTROL).any())


def _remarks_on_runs(block: pd.DataFrame) -> Iterator[str]:
    predictors = block.drop_duplicates("predictor")
    yield from remarks.small_banks(predictors)
    yield from remarks.notes(predictors)
