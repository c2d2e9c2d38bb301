"""Scatter plots of each gene's PCC against its noise ceiling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from spotwise.evaluation.averages import mean_table
from spotwise.evaluation.gene_sets import gene_sets
from spotwise.reporting.figures import style
from spotwise.reporting.figures.overview import gene_means

CEILING = "NoiseCeiling"
TITLE_LINE, AXIS_WIDTH, FOOT_HEIGHT = 3.4 * style.MM, 12 * style.MM, 20 * style.MM
SIGNS = {"HEG": "○", "HVG": "●"}
POINTS = {
    "HEG": {"markersize": 3.2, "markerfacecolor": "none", "markeredgewidth": 0.5},
    "HVG": {"markersize": 1.8, "markeredgewidth": 0},
}
EXPLANATION = (
    "○ HEG, ● HVG: PCC of a gene against its noise ceiling, which a predictor of the true rates would reach (line). "
    "Percentages: mean PCC of these genes, as in Table 1, divided by the mean of NoiseCeiling."
)


@style.page()
def draw_ceiling(scores: pd.DataFrame, looks: Mapping[str, style.Look], top: int) -> Figure:
    """Draw the PCC of the top HEG and HVG against their noise ceiling.

    Each predictor has a panel with the line of identity. Its title gives the share of the ceiling that is reached
    (`ceiling_shares`).

    Parameters
    ----------
    scores
        Rows of one cohort and protocol, including those of `NoiseCeiling`. The PCC of a gene is averaged over seeds,
        slides and folds.
    looks, top
        As in `reporting.figures`.

    Raises
    ------
    ValueError
        If the scores lack `NoiseCeiling`.
    """
    style.require_one(scores, "cohort", "protocol")
    if CEILING not in set(scores["predictor"]):
        raise ValueError(f"no scores of {CEILING}")
    looks = style.looks_of(looks, scores["predictor"])
    masks = gene_sets(scores, (top,))
    genes = {kind: gene_means(scores[masks[f"{kind}_top{top}"]]) for kind in POINTS}
    shares = ceiling_shares(scores, top)
    rows, columns = style.panel_grid(len(looks))
    side = (style.PAGE_WIDTH - AXIS_WIDTH) / columns
    names = {predictor: style.title(predictor, side) for predictor in looks}
    titles = TITLE_LINE * (2 + max(name.count("\n") for name in names.values()))
    size = style.PAGE_WIDTH, rows * (side + titles) + FOOT_HEIGHT
    fig, axes = style.panels(size, (rows, columns), style.cohort_title(scores), sharex=True, sharey=True)
    for ax, (predictor, look) in zip(axes.flat, looks.items(), strict=False):
        for kind, pcc in genes.items():
            _draw_genes(ax, pcc[CEILING], pcc[predictor], look.colour, POINTS[kind])
        reached = ", ".join(f"{sign} {_percent(shares.at[predictor, kind])}" for kind, sign in SIGNS.items())
        ax.set_title(f"{names[predictor]}\n{reached}")
    style.hide_empty(axes)
    for ax in axes.flat[max(0, len(looks) - columns) : len(looks)]:  # also above the empty places of the last row
        ax.set_xlabel("noise ceiling")
        ax.tick_params(axis="x", labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("PCC")
    style.foot(fig, EXPLANATION)
    return fig


def ceiling_shares(scores: pd.DataFrame, top: int) -> pd.DataFrame:
    """Divide the mean PCC of each predictor by that of `NoiseCeiling`.

    Means are those of Table 1. The columns HEG and HVG are indexed by predictor and NaN where the ceiling is 0.
    """
    means = mean_table(scores, [top]).set_index("predictor")[[f"{kind}_top{top}" for kind in POINTS]]
    ceiling = means.loc[CEILING]
    return (means / ceiling.where(ceiling.ne(0))).set_axis(list(POINTS), axis=1)


def _draw_genes(ax: Axes, ceiling: pd.Series, pcc: pd.Series, colour: str, point: dict) -> None:
    ax.axhline(0, color="0.7", linewidth=0.4, zorder=0)
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.5, zorder=0)
    ax.plot(ceiling[pcc.index], pcc, linestyle="none", marker="o", color=colour, **point)
    ax.set(xlim=(-0.02, 1.02), box_aspect=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{round(100 * share)} %".replace("-", "−")
