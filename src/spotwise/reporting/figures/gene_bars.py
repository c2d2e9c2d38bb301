"""Bar charts of the PCC of each top gene on one slide (Supplementary Figs. 4-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from spotwise.evaluation.gene_sets import gene_sets
from spotwise.reporting.figures import style

HIGHEST_ROW, LOWEST_ROW = 9 * style.MM, 4 * style.MM
NAMES_HEIGHT = 18 * style.MM  # of vertical gene names
FOOT_HEIGHT = 8 * style.MM
MOST_NAMES = 65  # that fit side by side on the page
LISTS = {"HEG": ("rank_mean", "mean expression"), "HVG": ("rank_var", "variance")}
EXPLANATION = "×: constant in the prediction or in the truth for at least one seed; counts as 0."
CONSTANT = {"marker": "x", "markersize": 2.5, "markeredgewidth": 0.6, "color": "black", "linestyle": "none"}


@style.page()
def draw_gene_bars(scores: pd.DataFrame, looks: Mapping[str, style.Look], top: int) -> Figure:
    """Draw the PCC of the top HEG and HVG of one slide as bars.

    Genes are ordered by rank. Each predictor has a row.

    Parameters
    ----------
    scores
        Rows of one slide and protocol. Seeds are averaged.
    looks, top
        As in `reporting.figures`.
    """
    style.require_one(scores, "cohort", "protocol", "sample")
    looks = style.looks_of(looks, scores["predictor"])
    row_height = np.clip(((style.PAGE_HEIGHT - FOOT_HEIGHT) / 2 - NAMES_HEIGHT) / len(looks), LOWEST_ROW, HIGHEST_ROW)
    height = 2 * (len(looks) * row_height + NAMES_HEIGHT) + FOOT_HEIGHT
    masks = gene_sets(scores, (top,))
    fig, grid = style.panels((style.PAGE_WIDTH, height), (2 * len(looks), 1), sharey=True)
    fig.get_layout_engine().set(h_pad=0.6 * style.MM, hspace=0)
    for block, (kind, (rank, quantity)) in enumerate(LISTS.items()):
        axes = grid[block * len(looks) : (block + 1) * len(looks), 0]
        genes = scores[masks[f"{kind}_top{top}"]]
        names = list(genes.drop_duplicates("gene").sort_values(rank)["gene"])
        for ax, (predictor, look) in zip(axes, looks.items(), strict=True):
            _draw_bars(ax, genes[genes["predictor"].eq(predictor)], names, look)
            ax.set_ylabel(predictor, rotation=0, ha="right", va="center", size=6)
        heading = f"{style.run_title(scores.iloc[0])}: PCC of {len(names)} {kind}"
        axes[0].set_title(f"{heading}, highest {quantity} first")
        if len(names) <= MOST_NAMES:
            axes[-1].set_xticks(range(len(names)), [style.plain(name) for name in names], rotation=90)
    style.foot(fig, EXPLANATION)
    return fig


def _draw_bars(ax: Axes, genes: pd.DataFrame, names: Sequence[str], look: style.Look) -> None:
    sns.barplot(
        genes,
        x="gene",
        y="pcc",
        order=names,
        errorbar=None,
        width=0.75,
        color=look.colour,
        saturation=1,
        hatch=look.hatch,
        edgecolor="black",
        linewidth=0.3,
        ax=ax,
    )
    constant = np.flatnonzero(np.isin(names, genes.loc[genes["is_constant"], "gene"]))
    ax.plot(constant, np.zeros(len(constant)), **CONSTANT)
    ax.axhline(0, color="black", linewidth=0.5)
    ax.set(xlabel="", xlim=(-0.7, len(names) - 0.3), xticks=[])
    ax.yaxis.set_major_locator(MultipleLocator(0.5))
    ax.yaxis.set_major_formatter(lambda pcc, _: f"{pcc:g}".replace("-", "−") if pcc else "")  # bars start from 0
    ax.grid(axis="y", color="0.85", linewidth=0.4)
    ax.set_axisbelow(True)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="x", length=0)
