"""Table 1: mean correlation per predictor, with its spread over folds and seeds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from spotwise.contracts import PAPER, PATIENT, PROTOCOLS
from spotwise.files import atomic, write_text
from spotwise.metrics import CONTROL, FILE_KEYS

ROW_KEYS = ["cohort", "protocol", "predictor"]
MARKER = "marker"

PROTOCOL_TITLES = {
    PAPER: "`paper` protocol: one slide left out, genes ranked on the test slide",
    PATIENT: "`patient` protocol: one patient left out, genes ranked on the training slides",
}
LEGEND = (
    "Pearson correlation per gene across the spots of a test slide, averaged over the genes of the set, then slides, "
    "folds and seeds; ± is the standard deviation over folds. HEG and HVG: the measured panel genes with the highest "
    "mean and the highest variance; marker: the cohort's marker genes that were measured. Constant genes: mean number "
    "per slide, of the measured panel genes, whose prediction or truth does not vary; they score 0. Best method "
    "**bold**, second best <u>underlined</u>. In italics, not competing: controls, which see no image, and bounds "
    "made from the truth (NoiseCeiling: what a predictor of the true rates would reach; Oracle: the truth itself)."
)


def gene_set_columns(top: Sequence[int] = (50,)) -> list[str]:
    """Names of the gene sets' columns, in order: HEG and HVG for each size, then the markers."""
    return [f"{kind}_top{n}" for n in top for kind in ("HEG", "HVG")] + [MARKER]


def gene_sets(scores: pd.DataFrame, top: Sequence[int] = (50,)) -> dict[str, pd.Series]:
    """Which rows of a score table belong to which gene set.

    Parameters
    ----------
    scores
        Rows with `metrics.SCORE_COLUMNS`.
    top
        Sizes of the HEG and HVG lists. A panel with fewer measured genes gives all of them.

    Returns
    -------
    dict
        Column name -> boolean mask over the rows. No mask looks at a prediction.
    """
    sets = {}
    for n in top:
        sets[f"HEG_top{n}"] = scores["rank_mean"].between(1, n)
        sets[f"HVG_top{n}"] = scores["rank_var"].between(1, n)
    sets[MARKER] = scores["is_marker"] & scores["is_measured"]
    return sets


def table1(
    scores: pd.DataFrame,
    top: Sequence[int] = (50,),
    cohorts: Sequence[str] = (),
    predictors: Sequence[str] = (),
    markers: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Average the scores into one row per cohort, protocol and predictor.

    Parameters
    ----------
    scores
        One row per gene and prediction file, `metrics.SCORE_COLUMNS`.
    top
        Sizes of the HEG and HVG lists.
    cohorts, predictors
        Display order, as in the config; what is not named follows in order of appearance. Controls come last.
    markers
        Cohort -> marker genes as listed in the config, to tell which of them no panel holds.

    Returns
    -------
    DataFrame
        cohort, protocol, predictor, kind; the mean PCC of each gene set (over genes, then slides, folds, seeds);
        `<set>_sd_folds` (over folds, seeds averaged) and `<set>_sd_seeds` (over seeds, folds averaged), both with
        ddof 1 and NaN for a single fold or seed; n_constant and n_genes (mean per slide, of measured panel genes);
        n_folds, n_seeds, k, k_used_min (smallest bank that was used), markers_found, markers_listed,
        markers_missing (names), note.
    """
    slides = _slide_means(scores, top)
    columns = [*gene_set_columns(top), "n_constant", "n_genes"]
    folds = slides.groupby([*ROW_KEYS, "fold", "seed"])[columns].mean()
    over_seeds = folds.groupby([*ROW_KEYS, "fold"]).mean()
    over_folds = folds.groupby([*ROW_KEYS, "seed"]).mean()

    sets = gene_set_columns(top)
    parts = [
        over_folds.groupby(ROW_KEYS)[sets].mean(),
        over_seeds.groupby(ROW_KEYS)[sets].std(ddof=1).add_suffix("_sd_folds"),
        over_folds.groupby(ROW_KEYS)[sets].std(ddof=1).add_suffix("_sd_seeds"),
        over_folds.groupby(ROW_KEYS)[["n_constant", "n_genes"]].mean(),
        _run_facts(scores),
        _marker_facts(scores, markers or {}),
    ]
    table = pd.concat(parts, axis=1).reset_index()
    order = _display_order(table, _order(scores["cohort"], cohorts), _order(scores["predictor"], predictors))
    last = ["n_folds", "n_seeds", "k", "k_used_min", "markers_found", "markers_listed", "markers_missing", "note"]
    spread = [f"{name}_sd_{over}" for name in sets for over in ("folds", "seeds")]
    return table.loc[order, [*ROW_KEYS, "kind", *sets, *spread, "n_constant", "n_genes", *last]].reset_index(drop=True)


def _slide_means(scores: pd.DataFrame, top: Sequence[int]) -> pd.DataFrame:
    """One row per prediction file: mean PCC of each gene set, numbers of constant and of measured genes."""
    files = scores.groupby(FILE_KEYS)
    means = {name: scores[mask].groupby(FILE_KEYS)["pcc"].mean() for name, mask in gene_sets(scores, top).items()}
    counts = {"n_constant": files["is_constant"].sum(), "n_genes": files["is_measured"].sum()}
    return pd.DataFrame({**means, **counts}).reset_index()


def _run_facts(scores: pd.DataFrame) -> pd.DataFrame:
    rows = scores.groupby(ROW_KEYS)
    return pd.DataFrame(
        {
            "kind": rows["kind"].first(),
            "n_folds": rows["fold"].nunique(),
            "n_seeds": rows["seed"].nunique(),
            "k": rows["k"].first(),
            "k_used_min": rows["k_used"].min(),
            "note": rows["note"].agg(lambda notes: "; ".join(note for note in notes.unique() if note)),
        }
    )


def _marker_facts(scores: pd.DataFrame, listed: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Markers measured in at least one test slide, and those that were asked for in vain."""
    rows = {}
    for key, genes in scores[scores["is_marker"]].groupby(ROW_KEYS):
        rows[key] = (set(genes["gene"]), set(genes.loc[genes["is_measured"], "gene"]))
    facts = []
    keys = scores[ROW_KEYS].drop_duplicates()
    for key in keys.itertuples(index=False, name=None):
        flagged, found = rows.get(key, (set(), set()))
        wanted = flagged | set(listed.get(key[0], ()))
        facts.append((len(found), len(wanted), ", ".join(sorted(wanted - found))))
    columns = ["markers_found", "markers_listed", "markers_missing"]
    return pd.DataFrame(facts, index=pd.MultiIndex.from_frame(keys), columns=columns)


def _order(present: pd.Series, wanted: Iterable[str]) -> dict[str, int]:
    names = [*wanted, *present.unique()]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _display_order(table: pd.DataFrame, cohorts: dict[str, int], predictors: dict[str, int]) -> np.ndarray:
    protocols = _order(table["protocol"], PROTOCOLS)
    ranks = (
        table["predictor"].map(predictors),
        table["kind"].eq(CONTROL),
        table["protocol"].map(protocols),
        table["cohort"].map(cohorts),
    )
    return np.lexsort([rank.to_numpy() for rank in ranks])  # the last key counts first


def to_markdown(table: pd.DataFrame) -> str:
    """Lay out `table1` for a reader: a section per cohort and protocol, ranks marked, remarks below.

    Parameters
    ----------
    table
        As returned by `table1`.

    Returns
    -------
    str
        Markdown, ending in a newline.
    """
    sets = _sets_of(table)
    lines = ["# Table 1: gene expression predicted from H&E", "", LEGEND, ""]
    for cohort, rows in table.groupby("cohort", sort=False):
        lines += [f"## {cohort}", ""]
        for protocol, block in rows.groupby("protocol", sort=False):
            lines += [f"### {PROTOCOL_TITLES.get(protocol, f'`{protocol}` protocol')}", ""]
            lines += _markdown_block(block, sets)
            lines += ["", *(f"* {remark}" for remark in remarks(block)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_block(block: pd.DataFrame, sets: list[str]) -> list[str]:
    headings = ["Predictor", *map(_heading, sets), "constant genes"]
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    marks = {name: _ranks(block, name) for name in sets}
    for row, control in zip(block.index, block["kind"].eq(CONTROL), strict=True):
        name = f"*{block.at[row, 'predictor']}*" if control else block.at[row, "predictor"]
        cells = [_cell(block.loc[row], column, marks[column].get(row)) for column in sets]
        constant = f"{block.at[row, 'n_constant']:.4g} of {block.at[row, 'n_genes']:.4g}"
        lines.append("| " + " | ".join([name, *cells, constant]) + " |")
    return lines


def _sets_of(table: pd.DataFrame) -> list[str]:
    return [column.removesuffix("_sd_folds") for column in table if column.endswith("_sd_folds")]


def _heading(column: str) -> str:
    return column.replace("_top", " top ")


def _ranks(block: pd.DataFrame, column: str) -> dict[int, int]:
    """Row -> 1 for the best method, 2 for the second best; methods level as printed share a place."""
    values = block.loc[block["kind"].ne(CONTROL), column].dropna().round(3)
    best = sorted(values.unique(), reverse=True)[:2]
    return {row: best.index(value) + 1 for row, value in values.items() if value in best}


def _cell(row: pd.Series, column: str, rank: int | None) -> str:
    if np.isnan(row[column]):
        return "–"
    mean = f"{round(row[column], 3) + 0.0:.3f}"  # no minus at a rounded zero
    mean = {1: f"**{mean}**", 2: f"<u>{mean}</u>"}.get(rank, mean)
    spread = row[f"{column}_sd_folds"]
    return mean if np.isnan(spread) else f"{mean} ± {spread:.3f}"


def remarks(block: pd.DataFrame) -> list[str]:
    """What a reader of one cohort and protocol has to know beside the numbers, one sentence each."""
    lines = []
    for row in block.itertuples():
        if row.k_used_min < row.k:
            lines.append(f"{row.predictor}: bank smaller than K: whole bank used (k_used={row.k_used_min})")
    smallest = block["n_genes"].min()
    for column in _sets_of(block):
        size = column.partition("_top")[2]
        if size and smallest < int(size):
            lines.append(f"{_heading(column)}: {smallest:.4g} measured panel genes, all of them taken")
    found, listed = block["markers_found"].max(), block["markers_listed"].max()
    if missing := "; ".join(names for names in block["markers_missing"].unique() if names):
        lines.append(f"Markers: {found} of {listed} measured; missing: {missing}")
    for note, rows in block[block["note"].ne("")].groupby("note", sort=False):
        lines.append(f"{', '.join(rows['predictor'])}: {note}")
    return [*lines, f"{plural(block['n_folds'].max(), 'fold')}, {plural(block['n_seeds'].max(), 'seed')}"]


def plural(n: int, noun: str) -> str:
    """Write a number with its noun: ``1 fold``, ``4 folds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def console(table: pd.DataFrame) -> str:
    """Lay out `table1` for a terminal: one line per predictor, ``*`` at the best method, controls in brackets."""
    sets = _sets_of(table)
    width = 2 + max(map(len, table["predictor"]), default=0)
    lines = []
    for (cohort, protocol), block in table.groupby(["cohort", "protocol"], sort=False):
        title = f"{cohort}, {protocol} protocol (mean PCC ± sd over {plural(block['n_folds'].max(), 'fold')})"
        lines += [title, " " * (width + 2) + "".join(f"{_heading(name):>17}" for name in sets)]
        marks = {name: _ranks(block, name) for name in sets}
        for row, control in zip(block.index, block["kind"].eq(CONTROL), strict=True):
            name = f"({block.at[row, 'predictor']})" if control else block.at[row, "predictor"]
            cells = [_cell(block.loc[row], column, None) + " *"[marks[column].get(row) == 1] for column in sets]
            lines.append(f"  {name:<{width}}" + "".join(f"{cell:>17}" for cell in cells))
        lines += [*(f"  {remark}" for remark in remarks(block)[:-1]), ""]
    return "\n".join(lines).rstrip() + "\n"


def write_table(table: pd.DataFrame, csv: str | os.PathLike, markdown: str | os.PathLike) -> None:
    """Write `table1` as CSV (six decimals, empty cells for NaN) and as Markdown, atomically."""
    with atomic(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    write_text(markdown, to_markdown(table))


def read_table(csv: str | os.PathLike) -> pd.DataFrame:
    """Read what `write_table` wrote."""
    texts = dict.fromkeys(("note", "markers_missing"), str)
    return pd.read_csv(csv, dtype=texts).fillna(dict.fromkeys(texts, ""))


if __name__ == "__main__":
    print(console(read_table(sys.argv[1])), end="")
