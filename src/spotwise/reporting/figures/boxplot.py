"""Box plots of the PCC per gene, for each test slide and predictor (Fig. 2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spotwise.evaluation.gene_sets import gene_sets
from spotwise.reporting.figures import style
from spotwise.reporting.tables.layout import plural

MAX_SLIDES_PER_BAND = 4
HIGHEST_BOX, LOWEST_BOX = 3.6 * style.MM, 2.5 * style.MM  # room for one line of 6 pt
TITLES_HEIGHT = 14 * style.MM
MEAN = {"marker": "D", "markersize": 2.2, "markerfacecolor": "w", "markeredgecolor": "k", "markeredgewidth": 0.4}
OUTLIER = {"marker": "o", "markersize": 1.2, "markerfacecolor": "0.3", "markeredgewidth": 0}


@style.page()
def draw_boxplot(scores: pd.DataFrame, looks: Mapping[str, style.Look], top: int) -> Figure:
    """Draw box plots of the PCC of the top HEG and HVG per slide.

    Each slide has a column of two panels with a box per predictor. The diamond is the mean, which Table 1 averages
    further.

    Parameters
    ----------
    scores
        Rows of one cohort and protocol. Seeds are averaged per gene. Constant genes count as 0, as in Table 1.
    looks, top
        As in `reporting.figures`.
    """
    style.require_one(scores, "cohort", "protocol")
    looks = style.looks_of(looks, scores["predictor"])
    slides = list(dict.fromkeys(scores.sort_values(["fold", "sample"], kind="stable")["sample"]))
    bands, columns = style.wrap(len(slides), MAX_SLIDES_PER_BAND)
    titles = (2 * bands + 0.5) * TITLES_HEIGHT
    boxes = 2 * bands * len(looks)
    height = titles + boxes * np.clip((style.PAGE_HEIGHT - titles) / boxes, LOWEST_BOX, HIGHEST_BOX)
    masks = gene_sets(scores, (top,))
    fig, axes = style.panels(
        (style.PAGE_WIDTH, height), (2 * bands, columns), style.cohort_title(scores), sharex=True, sharey=True
    )
    for place, slide in enumerate(slides):
        band, column = divmod(place, columns)
        for row, kind in enumerate(("HEG", "HVG")):
            ax = axes[2 * band + row, column]
            genes = scores[masks[f"{kind}_top{top}"] & scores["sample"].eq(slide)]
            draw_boxes(ax, genes.groupby(["predictor", "gene"])["pcc"].mean(), looks)
            ax.set_title(f"{slide}\n{kind}, {plural(genes['gene'].nunique(), 'gene')}")
    style.hide_empty(axes)
    _label_lowest(axes, len(slides))
    return fig


def draw_boxes(ax: Axes, pcc: pd.Series, looks: Mapping[str, style.Look]) -> None:
    """Draw a horizontal box per predictor, in the order of ``looks``.

    ``pcc`` is indexed by predictor and gene. The row of a predictor without correlations stays empty.
    """
    drawn = pcc.rename("pcc").reset_index()
    drawn = drawn[drawn["predictor"].isin(looks)]
    sns.boxplot(
        drawn,
        x="pcc",
        y="predictor",
        hue="predictor",
        order=list(looks),
        hue_order=list(looks),
        palette={name: look.colour for name, look in looks.items()},
        saturation=1,
        width=0.7,
        linewidth=0.5,
        linecolor="black",
        showmeans=True,
        medianprops={"linewidth": 1.0},
        meanprops=MEAN,
        flierprops=OUTLIER,
        legend=False,
        ax=ax,
    )
    for box, look in zip(ax.patches, style.looks_of(looks, drawn["predictor"]).values(), strict=True):
        box.set_hatch(look.hatch)
    ax.axvline(0, color="black", linewidth=0.5, zorder=0)
    ax.set(xlabel="", ylabel="")
    style.name_rows(ax, looks)


def _label_lowest(axes: np.ndarray, n_slides: int) -> None:
    """Label the x axis under the lowest panel of each column, also above an empty place."""
    columns = axes.shape[1]
    for column in range(columns):
        last = 2 * ((n_slides - 1 - column) // columns) + 1
        axes[last, column].set_xlabel("PCC per gene")
        axes[last, column].tick_params(axis="x", labelbottom=True)
