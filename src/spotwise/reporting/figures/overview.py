"""Box plots of the PCC per gene in each cohort, with significance against a reference (Fig. 2)."""

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
NAMES_WIDTH, PANEL_WIDTH = 30 * style.MM, 75 * style.MM  # of a figure with few cohorts
MARK_WIDTH = 6 * style.MM  # of ``▲***``

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # upper bounds of the corrected p value
BETTER, WORSE = "▲", "▼"
MARK_COLOURS = {BETTER: "black", WORSE: "#B2182B"}
REFERENCE_BAND = "#EFEFEF"


def stars(p: float) -> str:
    """Return the stars of a corrected p value, none for NaN."""
    return next((mark for level, mark in STARS if p < level), "")


def marks(comparisons: pd.DataFrame, cohort: str, protocol: str, gene_set: str, reference: str) -> dict[str, str]:
    """Return the marks of the predictors that differ from the reference.

    The test compares ranks and the tables compare means. Where the two disagree on the direction, there is no mark.

    Parameters
    ----------
    comparisons
        Rows with cohort, protocol, gene_set, first, second, p_holm, difference and effect_size. The last two are
        positive where the first is better. The reference may be first or second.

    Returns
    -------
    dict
        Predictor -> mark, such as ``▲***`` if it is better than the reference and ``▼*`` if it is worse.
    """
    place = comparisons[["cohort", "protocol", "gene_set"]].eq([cohort, protocol, gene_set]).all(axis=1)
    rows = comparisons[place & comparisons[["first", "second"]].eq(reference).any(axis=1)]
    found = {}
    for row in rows.itertuples():
        if stars(row.p_holm) and row.difference * row.effect_size > 0:
            reference_wins = (row.difference > 0) == (row.first == reference)
            other = row.second if row.first == reference else row.first
            found[other] = (WORSE if reference_wins else BETTER) + stars(row.p_holm)
    return found


@style.page()
def draw_overview(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    looks: Mapping[str, style.Look],
    reference: str,
    top: int,
    cohorts: Sequence[str] = (),
) -> Figure:
    """Draw box plots of the PCC of the top HEG and HVG per cohort.

    Each cohort has a column of two panels, HEG above HVG, with a box per predictor.

    Parameters
    ----------
    scores
        Rows of one protocol. The PCC of a gene is averaged over seeds, then over the slides whose list holds it, then
        over folds.
    comparisons
        `tables/comparisons.csv`, which decides the `marks`.
    reference
        The predictor that the others are compared with. Its row is shaded and its mean drawn as a line.
    looks, top, cohorts
        As in `reporting.figures`.
    """
    style.require_one(scores, "protocol")
    protocol = scores["protocol"].iloc[0]
    looks = style.looks_of(looks, scores["predictor"])
    cohorts = style.in_order(scores["cohort"], cohorts)
    masks = gene_sets(scores, (top,))
    bands, columns = style.wrap(len(cohorts), MAX_COHORTS_PER_BAND)
    width = min(style.PAGE_WIDTH, NAMES_WIDTH + columns * PANEL_WIDTH)
    height = bands * 2 * (TITLES_HEIGHT + len(looks) * BOX_HEIGHT) + FOOT_HEIGHT
    heading = f"PCC per gene, {protocol} protocol"
    fig, axes = style.panels((width, height), (2 * bands, columns), heading, sharex=True, sharey=True)
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
    style.hide_empty(axes)
    style.leave_room(axes[0, 0], MARK_WIDTH)
    style.foot(fig, _explanation(reference))
    return fig


def read_comparisons(path: str | os.PathLike) -> pd.DataFrame:
    """Read ``comparisons.csv``, in which a cohort or predictor may be named ``null``."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def gene_means(scores: pd.DataFrame) -> pd.Series:
    """Average the PCC by predictor and gene over seeds, then slides, then folds."""
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
        f"{BETTER} better, {WORSE} worse than {reference} (shaded; dashed line: its mean) by Wilcoxon's signed-rank "
        f"test over the genes: {levels} after Holm's correction; no mark: no such difference. Line in a box: median; "
        "diamond: mean."
    )
