"""Fig. 2: how the correlation spreads over genes, per test slide and predictor."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spotwise.evaluation.gene_sets import gene_sets
from spotwise.reporting.figures import style
from spotwise.reporting.tables.layout import plural

MAX_SLIDES_PER_BAND = 4
HIGHEST_BOX, LOWEST_BOX = 3.6 * style.MM, 2.5 * style.MM  # room for one line of 6 pt
TITLES_HEIGHT = 14 * style.MM


def pcc_boxplot(
    scores: pd.DataFrame,
    looks: Mapping[str, style.Look],
    top: int,
    pdf: str | os.PathLike,
    png: str | os.PathLike,
) -> None:
    """Draw the PCC of the top HEG and HVG as boxes: a column of two panels per slide, a box per predictor.

    Parameters
    ----------
    scores
        Rows of one cohort and protocol with `SCORE_COLUMNS`. Seeds are averaged per gene; constant genes count
        with their 0, as in Table 1. The diamond is the mean, which Table 1 averages further.
    looks
        Predictors from top to bottom, with their looks (`style.predictor_looks`). Those without scores are left out.
    top
        Size of the HEG and HVG lists.
    pdf, png
        Files to write.

    Raises
    ------
    ValueError
        The scores are of more than one cohort or protocol.
    """
    style.require_one(scores, "cohort", "protocol")
    looks = style.looks_of(looks, scores["predictor"])
    slides = list(dict.fromkeys(scores.sort_values(["fold", "sample"], kind="stable")["sample"]))
    bands, columns = style.wrap(len(slides), MAX_SLIDES_PER_BAND)
    with style.page():
        titles = (2 * bands + 0.5) * TITLES_HEIGHT
        boxes = 2 * bands * len(looks)
        box_height = np.clip((style.PAGE_HEIGHT - titles) / boxes, LOWEST_BOX, HIGHEST_BOX)
        fig = Figure(figsize=(style.PAGE_WIDTH, titles + boxes * box_height), layout="constrained")
        fig.suptitle(f"{scores['cohort'].iloc[0]}, {scores['protocol'].iloc[0]} protocol")
        axes = fig.subplots(2 * bands, columns, sharex=True, sharey=True, squeeze=False)
        masks = gene_sets(scores, (top,))
        for place, slide in enumerate(slides):
            band, column = divmod(place, columns)
            for row, kind in enumerate(("HEG", "HVG")):
                genes = scores[masks[f"{kind}_top{top}"] & scores["sample"].eq(slide)]
                draw_boxes(axes[2 * band + row, column], genes.groupby(["predictor", "gene"])["pcc"].mean(), looks)
                axes[2 * band + row, column].set_title(f"{slide}\n{kind}, {plural(genes['gene'].nunique(), 'gene')}")
        for ax in axes.flat:
            ax.set_visible(ax.has_data())
        _label_edges(axes, len(slides))
        style.save(fig, pdf, png)


def draw_boxes(ax: Axes, pcc: pd.Series, looks: Mapping[str, style.Look]) -> None:
    """Draw a horizontal box per predictor, from top to bottom in the order of ``looks``.

    Parameters
    ----------
    pcc
        Correlations, indexed by predictor and gene.
    looks
        Predictors with their looks; the place of one without correlations stays empty.
    """
    present = set(pcc.index.get_level_values("predictor"))
    ax.axvline(0, color="black", linewidth=0.5, zorder=0)
    for place, (predictor, look) in enumerate(looks.items()):
        if predictor not in present:
            continue
        ax.boxplot(
            pcc[predictor].to_numpy(),
            positions=[place],
            widths=0.7,
            orientation="horizontal",
            patch_artist=True,
            showmeans=True,
            boxprops={"facecolor": look.colour, "hatch": look.hatch, "linewidth": 0.5},
            medianprops={"color": "black", "linewidth": 1.0},
            meanprops={"marker": "D", "markersize": 2.2, "markerfacecolor": "white", "markeredgecolor": "black"}
            | {"markeredgewidth": 0.4},
            whiskerprops={"linewidth": 0.5},
            capprops={"linewidth": 0.5},
            flierprops={"marker": "o", "markersize": 1.2, "markerfacecolor": "0.3", "markeredgewidth": 0},
        )
    ax.set_yticks(range(len(looks)), list(looks))
    ax.set_ylim(len(looks) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _label_edges(axes, n_slides: int) -> None:
    """Tick labels and the axis' name under the lowest panel of each column, also where the last band is not full."""
    columns = axes.shape[1]
    for column in range(columns):
        last = 2 * ((n_slides - 1 - column) // columns) + 1
        axes[last, column].set_xlabel("PCC per gene")
        axes[last, column].tick_params(axis="x", labelbottom=True)
