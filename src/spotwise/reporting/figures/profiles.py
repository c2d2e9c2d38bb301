"""Fig. 3: predicted against true mean and variance of every gene over one slide."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from spotwise.reporting.figures import style
from spotwise.reporting.tables.layout import plural

AXIS_WIDTH = 12 * style.MM
TITLE_LINE = 3.4 * style.MM
AXIS_HEIGHT, FOOT_HEIGHT = 6 * style.MM, 14 * style.MM
QUANTITIES = {"mean": ("observed_mean", "predicted_mean"), "variance": ("observed_var", "predicted_var")}
DRAWN = tuple(column for pair in QUANTITIES.values() for column in pair)
EXPLANATION = (
    "A point per measured gene, over all spots of the slide. Line: predicted = true; ratio: median of predicted / true."
    " Values too low for the axes, zeros and negative predictions included, stand on their edge."
)
LOWEST_PERCENTILE = 1  # the few values below it would take up decades of the axes


def expression_profiles(
    scores: pd.DataFrame, looks: Mapping[str, style.Look], pdf: str | os.PathLike, png: str | os.PathLike
) -> None:
    """Draw all measured genes of one slide, predicted against true: the mean (upper panel), the variance (lower panel).

    The axes are logarithmic: means span three decades, and most genes lie in the lowest. The line is identity. What is
    too low for the axes, zeros and negative predictions included, stands on their edge. The number over a panel is the
    median over genes of predicted / true.

    Parameters
    ----------
    scores
        Rows of one slide and protocol with `SCORE_COLUMNS`, those in `DRAWN` at least. Seeds are averaged.
    looks
        Predictors in display order, with their looks (`style.predictor_looks`). Those without scores are left out.
    pdf, png
        Files to write.

    Raises
    ------
    ValueError
        The scores are of more than one slide or protocol.
    """
    style.require_one(scores, "cohort", "protocol", "sample")
    genes = scores[scores["is_measured"]].groupby(["predictor", "gene"])[list(DRAWN)].mean()
    present = set(scores["predictor"])
    shown = [name for name in looks if name in present]
    bands, columns = style.panel_grid(len(shown))
    side = (style.PAGE_WIDTH - AXIS_WIDTH) / columns
    names = {predictor: style.title(predictor, side) for predictor in shown}
    titles = TITLE_LINE * (3 + max(name.count("\n") for name in names.values()))
    with style.page():
        height = bands * (2 * (side + AXIS_HEIGHT) + titles) + FOOT_HEIGHT
        fig = Figure(figsize=(style.PAGE_WIDTH, height), layout="constrained")
        fig.suptitle(f"{style.run_title(scores.iloc[0])}: {plural(len(genes.loc[shown[0]]), 'gene')}")
        axes = fig.subplots(2 * bands, columns, squeeze=False)
        for row, (quantity, (true, predicted)) in enumerate(QUANTITIES.items()):
            panels = axes[row::2].ravel()
            limits = _limits(genes.loc[shown, true], genes.loc[shown, predicted])
            for ax, predictor in zip(panels, shown, strict=False):
                points = genes.loc[predictor]
                _draw_genes(ax, points[true], points[predicted], looks[predictor].colour, limits)
                ratio = f"ratio {_median_ratio(points[predicted], points[true]):.2g}".replace("-", "−")
                ax.set_title(f"{names[predictor]}\n{ratio}" if row == 0 else ratio)
                ax.set_xlabel(f"true {quantity}")
            for ax in panels[len(shown) :]:
                ax.set_visible(False)
            for ax in axes[row::2, 0]:
                ax.set_ylabel(f"predicted {quantity}")
            for ax in axes[row::2, 1:].flat:
                ax.tick_params(labelleft=False)
        style.foot(fig, EXPLANATION)
        style.save(fig, pdf, png)


def _limits(true: pd.Series, predicted: pd.Series) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of both axes: a power of ten under nearly all values of its own, and above the highest value of either."""
    top = 1.5 * max(true.max(), predicted.max())
    drawn = (true, predicted if (predicted > 0).any() else true)  # constant predictions alone have no variance
    floors = (np.percentile(values[values > 0], LOWEST_PERCENTILE) for values in drawn)
    across, up = (float(10 ** np.floor(np.log10(floor))) for floor in floors)
    return (across, top), (up, top)


def _median_ratio(predicted: pd.Series, true: pd.Series) -> float:
    expressed = true > 0
    return float(np.median(predicted[expressed] / true[expressed]))


def _draw_genes(ax: Axes, true: pd.Series, predicted: pd.Series, colour: str, limits) -> None:
    across, up = limits
    ax.plot(
        true.clip(lower=across[0]),
        predicted.clip(lower=up[0]),
        linestyle="none",
        marker=".",
        markersize=1.8,
        markeredgewidth=0,
        color=colour,
        alpha=0.7,
        clip_on=False,  # whole points on the edge, and over it
        zorder=3,
        rasterized=True,  # thousands of circles in a panel are a burden to open
    )
    ax.plot(across, across, color="black", linewidth=0.5, zorder=4)
    ax.set(xscale="log", yscale="log", xlim=across, ylim=up, box_aspect=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_locator(NullLocator())
