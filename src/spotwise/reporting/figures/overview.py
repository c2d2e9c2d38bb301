"""Fig. 2: how the correlation spreads over genes in each cohort, and which predictors differ from the reference."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spotwise.evaluation.gene_sets import gene_sets
from spotwise.reporting.figures import style
from spotwise.reporting.figures.boxplot import draw_boxes
from spotwise.reporting.tables.layout import plural

MAX_COHORTS_PER_BAND = 6
BOX_HEIGHT = 3.1 * style.MM  # room for one line of 6 pt
TITLES_HEIGHT = 10 * style.MM
FOOT_HEIGHT = 16 * style.MM
NAMES_WIDTH, PANEL_WIDTH = 30 * style.MM, 75 * style.MM  # of a figure with room to spare
MARK_WIDTH = 6 * style.MM  # of ``▲***``

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # corrected p below which a difference is marked
BETTER, WORSE = "▲", "▼"
MARK_COLOURS = {BETTER: "black", WORSE: "#B2182B"}
REFERENCE_BAND = "#EFEFEF"


def stars(p: float) -> str:
    """Stars for a corrected p value; none from .05 on, and none where it is NaN."""
    return next((mark for level, mark in STARS if p < level), "")


def marks(comparisons: pd.DataFrame, cohort: str, protocol: str, gene_set: str, reference: str) -> dict[str, str]:
    """What to write beside the predictors that differ from the reference: a triangle up or down, and stars.

    The test looks at ranks, and the table at means: where the two point different ways there is no mark.

    Parameters
    ----------
    comparisons
        Rows with cohort, protocol, gene_set, first, second, p_holm, and difference and effect_size, both positive where
        the first is better.
    cohort, protocol, gene_set
        Which of them.
    reference
        The predictor that all others are compared with; it may stand first or second.

    Returns
    -------
    dict
        Predictor -> mark, e.g. ``▲***`` where it is better than the reference, ``▼*`` where it is worse.
    """
    rows = comparisons[
        comparisons["cohort"].eq(cohort)
        & comparisons["protocol"].eq(protocol)
        & comparisons["gene_set"].eq(gene_set)
        & (comparisons["first"].eq(reference) | comparisons["second"].eq(reference))
    ]
    found = {}
    for row in rows.itertuples():
        if stars(row.p_holm) and row.difference * row.effect_size > 0:
            reference_wins = (row.difference > 0) == (row.first == reference)
            other = row.second if row.first == reference else row.first
            found[other] = (WORSE if reference_wins else BETTER) + stars(row.p_holm)
    return found


def overview(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    looks: Mapping[str, style.Look],
    reference: str,
    top: int,
    pdf: str | os.PathLike,
    png: str | os.PathLike,
    cohorts: Sequence[str] = (),
) -> None:
    """Draw the PCC of the top HEG (upper panel) and HVG (lower panel) of every cohort as boxes, one per predictor.

    Parameters
    ----------
    scores
        Rows of one protocol with `SCORE_COLUMNS`. A gene's PCC is averaged over seeds, then over the slides on
        whose list it stands, then over folds.
    comparisons
        `tables/comparisons.csv`: what decides the marks (`marks`).
    looks
        Predictors from top to bottom, with their looks (`style.predictor_looks`). Those without scores are left out.
    reference
        The predictor that is compared with the others; its row is shaded and its mean drawn through the panel.
    top
        Size of the HEG and HVG lists.
    pdf, png
        Files to write.
    cohorts
        Display order, as in the config.

    Raises
    ------
    ValueError
        The scores are of more than one protocol.
    """
    style.require_one(scores, "protocol")
    protocol = scores["protocol"].iloc[0]
    looks = style.looks_of(looks, scores["predictor"])
    present = set(scores["cohort"])
    cohorts = [name for name in dict.fromkeys([*cohorts, *scores["cohort"]]) if name in present]
    masks = gene_sets(scores, (top,))
    bands, columns = style.wrap(len(cohorts), MAX_COHORTS_PER_BAND)
    with style.page():
        width = min(style.PAGE_WIDTH, NAMES_WIDTH + columns * PANEL_WIDTH)
        height = bands * 2 * (TITLES_HEIGHT + len(looks) * BOX_HEIGHT) + FOOT_HEIGHT
        fig = Figure(figsize=(width, height), layout="constrained")
        fig.suptitle(f"PCC per gene, {protocol} protocol")
        axes = fig.subplots(2 * bands, columns, sharex=True, sharey=True, squeeze=False)
        for place, cohort in enumerate(cohorts):
            band, column = divmod(place, columns)
            for row, kind in enumerate(("HEG", "HVG")):
                gene_set = f"{kind}_top{top}"
                genes = scores[masks[gene_set] & scores["cohort"].eq(cohort)]
                ax = axes[2 * band + row, column]
                _draw_cohort(ax, gene_means(genes), looks, reference)
                for predictor, mark in marks(comparisons, cohort, protocol, gene_set, reference).items():
                    if predictor in looks:
                        style.write_at_edge(ax, list(looks).index(predictor), mark, MARK_WIDTH, MARK_COLOURS[mark[0]])
                ax.set_title(f"{cohort}\n{kind}, {plural(genes['gene'].nunique(), 'gene')}")
                if row == 1:
                    ax.tick_params(axis="x", labelbottom=True)
                    ax.set_xlabel("PCC per gene")
        for ax in axes.flat:
            ax.set_visible(ax.has_data())
        style.leave_room(axes[0, 0], MARK_WIDTH)
        style.foot(fig, _explanation(reference))
        style.save(fig, pdf, png)


def read_comparisons(path: str | os.PathLike) -> pd.DataFrame:
    """Read ``comparisons.csv``, in which a cohort or a predictor may be called ``null``."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def gene_means(scores: pd.DataFrame) -> pd.Series:
    """PCC by predictor and gene: averaged over seeds, then slides, then folds, as in the comparisons."""
    slides = scores.groupby(["predictor", "gene", "fold", "sample"])["pcc"].mean()
    return slides.groupby(["predictor", "gene", "fold"]).mean().groupby(["predictor", "gene"]).mean()


def _draw_cohort(ax: Axes, pcc: pd.Series, looks: Mapping[str, style.Look], reference: str) -> None:
    draw_boxes(ax, pcc, looks)
    if reference in pcc.index.get_level_values("predictor"):
        place = list(looks).index(reference)
        ax.axhspan(place - 0.5, place + 0.5, color=REFERENCE_BAND, linewidth=0, zorder=-1)
        ax.axvline(pcc[reference].mean(), color="0.35", linewidth=0.5, linestyle=(0, (4, 2)), zorder=0)


def _explanation(reference: str) -> str:
    levels = ", ".join(f"{mark} p < {level:g}".replace(" ", "\u00a0") for level, mark in reversed(STARS))
    return (
        f"{BETTER} better, {WORSE} worse than {reference} (reference: shaded, its mean dashed) by Wilcoxon's signed-"
        f"rank test over the genes: {levels} after Holm's correction; no mark: no such difference. Line in a box: "
        "median; diamond: mean."
    )
