"""Averages of scores over genes, slides, folds and seeds, in that order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from spotwise.constants import CONTROL, PROTOCOLS
from spotwise.errors import InputError
from spotwise.evaluation.gene_sets import gene_set_columns, gene_sets
from spotwise.evaluation.score_files import FILE_KEYS, read_scores

SECTION = ["cohort", "protocol"]
ROW_KEYS = [*SECTION, "predictor"]
RUN_FACTS = ["n_folds", "n_seeds", "k", "k_used_min"]
MARKER_FACTS = ["markers_found", "markers_listed", "markers_missing"]
# columns of the scores that averages are made of
AVERAGED_COLUMNS = (
    *FILE_KEYS,
    *("method", "kind", "k", "k_used", "note", "gene", "pcc"),
    *("rank_mean", "rank_var", "is_marker", "is_measured", "is_constant"),
)
GENE_COUNTS = ["n_constant", "n_genes", "n_ranked"]


def notes_of(scores: pd.DataFrame, names: pd.Series) -> pd.Series:
    """Return the note of the predictor of each name, empty for none."""
    noted = scores[scores["note"].ne("")].drop_duplicates("predictor").set_index("predictor")["note"]
    return names.map(noted).fillna("")


def read_listed(
    paths: Iterable[str | os.PathLike],
    top: Sequence[int],
    columns: Sequence[str] = AVERAGED_COLUMNS,
    genes: Sequence[str] = (),
    predictors: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the rows of score files, of ``columns``, that belong to a gene set with lists of ``top`` genes.

    Rows of ``genes`` are kept, too, where they are measured. Rows keep their order; if ``predictors`` are given, only
    theirs are kept, within a cohort and protocol in this order.
    """
    tables = []
    for path in paths:
        scores = read_scores([path], columns, predictors)
        named = scores["gene"].isin(genes) & scores["is_measured"]
        tables.append(scores[np.logical_or.reduce([named, *gene_sets(scores, top).values()])])
    table = pd.concat(tables, ignore_index=True)
    if predictors is None:
        return table
    ranks = table["predictor"].map({name: rank for rank, name in enumerate(predictors)})
    order = np.lexsort((ranks, table.groupby(SECTION, sort=False).ngroup()))
    return table.iloc[order].reset_index(drop=True)


def mean_table(
    scores: pd.DataFrame,
    top: Sequence[int] = (50,),
    cohorts: Sequence[str] = (),
    predictors: Sequence[str] = (),
    markers: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Average the scores into one row per cohort, protocol and predictor.

    ``scores`` has a row per gene and prediction file, `score_files.SCORE_COLUMNS`; ``cohorts`` and ``predictors`` are
    in display order; ``markers`` are the configured ones by cohort, to list those that are missing from every panel.

    Returns
    -------
    DataFrame
        `ROW_KEYS`, method, kind; the mean PCC of each gene set (over genes, then slides, folds, seeds);
        `<set>_sd_folds` (over folds, seeds averaged) and `<set>_sd_seeds` (over seeds, folds averaged), both with ddof
        1 and NaN for a single fold or seed; n_constant, n_genes and n_ranked (mean per slide, of measured panel genes;
        ranked are the highly variable ones); n_folds, n_seeds, k, k_used_min (number of retrieved spots from the
        smallest bank), markers_found, markers_listed, markers_missing (names), note.
    """
    sets = gene_set_columns(top)
    means = over_runs(slide_means(scores, top), ROW_KEYS, [*sets, *GENE_COUNTS])
    parts = [means, run_facts(scores), _marker_facts(scores, markers or {})]
    cohorts, predictors = [*cohorts, *scores["cohort"].unique()], [*predictors, *scores["predictor"].unique()]
    table = in_order(pd.concat(parts, axis=1).reset_index(), cohorts, predictors)
    return table[[*ROW_KEYS, "method", "kind", *mean_columns(sets), *GENE_COUNTS, *RUN_FACTS, *MARKER_FACTS, "note"]]


def gene_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the scores into one row per cohort, protocol, predictor and panel gene.

    Returns
    -------
    DataFrame
        `ROW_KEYS`, gene; pcc: mean over the slides that measure the gene, then folds, then seeds, NaN where none does;
        pcc_sd_folds, pcc_sd_seeds; n_constant: slides (mean over seeds) on which the prediction or the truth is
        constant; n_slides that measure the gene, and n_ranked whose panel has it as highly variable, of of_slides that
        were predicted; the facts of the predictor as in `mean_table`.
    """
    genes = scores.groupby([*ROW_KEYS, "gene"])
    table = over_runs(scores, [*ROW_KEYS, "gene"], ["pcc"])
    table["n_constant"] = genes["is_constant"].sum() / genes["seed"].nunique()
    for name, counted in (("n_slides", scores["is_measured"]), ("n_ranked", scores["rank_mean"] > 0)):
        slides = scores["sample"].where(counted)
        table[name] = slides.groupby([scores[key] for key in (*ROW_KEYS, "gene")]).nunique()
    facts = run_facts(scores).assign(of_slides=scores.groupby(ROW_KEYS)["sample"].nunique())
    return table.reset_index().join(facts, on=ROW_KEYS)


def read_averages(
    paths: Iterable[str | os.PathLike],
    top: Sequence[int],
    markers: Mapping[str, Sequence[str]],
    predictors: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read score files one at a time into the results of `mean_table` and `gene_table`.

    All scores of a paper would not fit in memory. The keys of ``markers`` are the cohorts in display order.

    Raises
    ------
    InputError
        Two files hold scores of one predictor in one cohort and protocol.
    """
    means, genes = [], []
    read: dict[tuple[str, ...], object] = {}
    for path in paths:
        scores = read_scores([path], AVERAGED_COLUMNS)
        for key in scores[ROW_KEYS].drop_duplicates().itertuples(index=False, name=None):
            if key in read:
                found = f"scores of {', '.join(key)}, as in {read[key]}"
                raise InputError(path, "predictor", found, "all scores of a predictor in one file")
            read[key] = path
        means.append(mean_table(scores, top, markers=markers))
        genes.append(gene_table(scores))
    return tuple(in_order(pd.concat(parts), list(markers), predictors) for parts in (means, genes))


def mean_columns(sets: Iterable[str]) -> list[str]:
    """List the columns of gene sets, means first, then spreads."""
    sets = list(sets)
    return [*sets, *(f"{name}_sd_{over}" for name in sets for over in ("folds", "seeds"))]


def over_runs(scores: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Average ``columns`` over slides, then folds, then seeds, with spreads as in `mean_table`.

    ``scores`` has a row per prediction file (and gene, for instance), with fold, seed and the ``keys`` to group by. NaN
    are left out.
    """
    runs = scores.groupby([*keys, "fold", "seed"])[columns].mean()
    fold_means = runs.groupby([*keys, "fold"]).mean()
    seed_means = runs.groupby([*keys, "seed"]).mean()
    parts = [
        seed_means.groupby(keys).mean(),
        fold_means.groupby(keys).std(ddof=1).add_suffix("_sd_folds"),
        seed_means.groupby(keys).std(ddof=1).add_suffix("_sd_seeds"),
    ]
    return pd.concat(parts, axis=1)


def slide_means(scores: pd.DataFrame, top: Sequence[int]) -> pd.DataFrame:
    """Average each gene set's PCC per prediction file, with gene counts."""
    by_file = scores.groupby(FILE_KEYS)
    means = {name: scores[mask].groupby(FILE_KEYS)["pcc"].mean() for name, mask in gene_sets(scores, top).items()}
    ranked = scores["rank_mean"].gt(0).groupby([scores[key] for key in FILE_KEYS]).sum()
    counts = [by_file["is_constant"].sum(), by_file["is_measured"].sum(), ranked]
    return pd.DataFrame({**means, **dict(zip(GENE_COUNTS, counts, strict=True))}).reset_index()


def run_facts(scores: pd.DataFrame) -> pd.DataFrame:
    """Collect method, kind, `RUN_FACTS` and note of each cohort, protocol and predictor."""
    return scores.groupby(ROW_KEYS).agg(
        method=("method", "first"),
        kind=("kind", "first"),
        n_folds=("fold", "nunique"),
        n_seeds=("seed", "nunique"),
        k=("k", "first"),
        k_used_min=("k_used", "min"),
        note=("note", lambda notes: "; ".join(filter(None, notes.unique()))),
    )


def _marker_facts(scores: pd.DataFrame, listed: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Count the measured markers, and name those missing from every panel."""
    facts = {}
    for (cohort, *key), rows in scores.groupby(ROW_KEYS):
        markers = rows[rows["is_marker"]]
        found = set(markers.loc[markers["is_measured"], "gene"])
        wanted = {*markers["gene"], *listed.get(cohort, ())}
        facts[cohort, *key] = (len(found), len(wanted), ", ".join(sorted(wanted - found)))
    index = pd.MultiIndex.from_tuples(facts, names=ROW_KEYS)
    return pd.DataFrame(list(facts.values()), index=index, columns=MARKER_FACTS)


def _order(present: pd.Series, wanted: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys([*wanted, *present.unique()]))}


def in_order(table: pd.DataFrame, cohorts: Iterable[str], predictors: Iterable[str]) -> pd.DataFrame:
    """Sort rows by cohort, protocol, kind (methods first) and predictor.

    ``cohorts`` and ``predictors`` are in display order; names beyond these follow in order of appearance.
    """
    ranks = (
        table["predictor"].map(_order(table["predictor"], predictors)),
        table["kind"].eq(CONTROL),
        table["protocol"].map(_order(table["protocol"], PROTOCOLS)),
        table["cohort"].map(_order(table["cohort"], cohorts)),
    )
    by_row = np.lexsort([rank.to_numpy() for rank in ranks])  # the last key counts first
    return table.iloc[by_row].reset_index(drop=True)
