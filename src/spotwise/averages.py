"""Gene sets, and averages over genes, slides, folds and seeds, in that order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from spotwise.contracts import PROTOCOLS
from spotwise.metrics import CONTROL, FILE_KEYS

ROW_KEYS = ["cohort", "protocol", "predictor"]
MARKER = "marker"


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


def mean_table(
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
    slides = slide_means(scores, top)
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


def slide_means(scores: pd.DataFrame, top: Sequence[int]) -> pd.DataFrame:
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
