"""The correlation of each gene against the noise ceiling: how much of what can be predicted is predicted."""

from __future__ import annotations

import os
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
    "○ HEG, ● HVG: a gene's PCC against its noise ceiling, which a predictor of the true rates would reach (line). "
    "Per cent: mean PCC of these genes, as in Table 1, as a share of the mean of NoiseCeiling."
)


def noise_ceiling(
    scores: pd.DataFrame, looks: Mapping[str, style.Look], top: int, pdf: str | os.PathLike, png: str | os.PathLike
) -> None:
    """Draw the PCC of the top HEG and HVG against their noise ceiling: a panel per predictor, the line of identity.

    Over a panel stands the share of the ceiling that is reached (`ceiling_shares`).

    Parameters
    ----------
    scores
        Rows of one cohort and protocol with `SCORE_COLUMNS`, those of `NoiseCeiling` among them. A gene's PCC
        is averaged over seeds, slides and folds.
    looks
        Predictors in display order, with their looks (`style.predictor_looks`). Those without scores are left out.
    top
        Size of the HEG and HVG lists.
    pdf, png
        Files to write.

    Raises
    ------
    ValueError
        The scores are of more than one cohort or protocol, or hold no `NoiseCeiling`.
    """
    style.require_one(scores, "cohort", "protocol")
    present = set(scores["predictor"])
    if CEILING not in present:
        raise ValueError(f"no scores of {CEILING}")
    shown = [name for name in looks if name in present]
    masks = gene_sets(scores, (top,))
    genes = {kind: gene_means(scores[masks[f"{kind}_top{top}"]]) for kind in POINTS}
    shares = ceiling_shares(scores, top)
    rows, columns = style.panel_grid(len(shown))
    side = (style.PAGE_WIDTH - AXIS_WIDTH) / columns
    names = {predictor: style.title(predictor, side) for predictor in shown}
    titles = TITLE_LINE * (2 + max(name.count("\n") for name in names.values()))
    with style.page():
        fig = Figure(figsize=(style.PAGE_WIDTH, rows * (side + titles) + FOOT_HEIGHT), layout="constrained")
        fig.suptitle(f"{scores['cohort'].iloc[0]}, {scores['protocol'].iloc[0]} protocol")
        axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, predictor in zip(axes.flat, shown, strict=False):
            for kind, points in genes.items():
                _draw_genes(ax, points[CEILING], points[predictor], looks[predictor].colour, POINTS[kind])
            reached = ", ".join(f"{sign} {_percent(shares.at[predictor, kind])}" for kind, sign in SIGNS.items())
            ax.set_title(f"{names[predictor]}\n{reached}")
        for ax in axes.flat[len(shown) :]:
            ax.set_visible(False)
        style.label_edges(axes, len(shown), "noise ceiling", "PCC")
        style.foot(fig, EXPLANATION)
        style.save(fig, pdf, png)


def ceiling_shares(scores: pd.DataFrame, top: int) -> pd.DataFrame:
    """Mean PCC as in Table 1, as a share of that of `NoiseCeiling`; NaN where the ceiling is 0.

    Parameters
    ----------
    scores, top
        As in `noise_ceiling`.

    Returns
    -------
    DataFrame
        Indexed by predictor: HEG, HVG.
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
