"""Predicted against true mean and variance of every gene on one slide (Fig. 3)."""

from __future__ import annotations

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
    "Points: measured genes, over all spots of the slide. Line: predicted = true; ratio: median of predicted / true. "
    "Values too low for the axes, including zeros and negative predictions, lie on the edge."
)
LOWEST_PERCENTILE = 1  # the few values below it would take up decades of the axes


@style.page()
def draw_profiles(scores: pd.DataFrame, looks: Mapping[str, style.Look]) -> Figure:
    """Draw predicted against true mean and variance of the measured genes.

    Each predictor has a panel for the mean above one for the variance. The axes are logarithmic, as means span three
    decades and most genes lie in the lowest. Values too low for the axes lie on the edge. Titles give the median over
    genes of predicted / true.

    Parameters
    ----------
    scores
        Rows of one slide and protocol, with the columns `DRAWN`. Seeds are averaged.
    looks
        As in `reporting.figures`.
    """
    style.require_one(scores, "cohort", "protocol", "sample")
    genes = scores[scores["is_measured"]].groupby(["predictor", "gene"])[list(DRAWN)].mean()
    looks = style.looks_of(looks, scores["predictor"])
    shown = list(looks)
    bands, columns = style.panel_grid(len(shown))
    side = (style.PAGE_WIDTH - AXIS_WIDTH) / columns
    names = {predictor: style.title(predictor, side) for predictor in shown}
    titles = TITLE_LINE * (3 + max(name.count("\n") for name in names.values()))
    height = bands * (2 * (side + AXIS_HEIGHT) + titles) + FOOT_HEIGHT
    heading = f"{style.run_title(scores.iloc[0])}: {plural(len(genes.loc[shown[0]]), 'gene')}"
    fig, axes = style.panels((style.PAGE_WIDTH, height), (2 * bands, columns), heading)
    for row, (quantity, (true, predicted)) in enumerate(QUANTITIES.items()):
        limits = _limits(genes.loc[shown, true], genes.loc[shown, predicted])
        for ax, (predictor, look) in zip(axes[row::2].flat, looks.items(), strict=False):
            points = genes.loc[predictor]
            _draw_genes(ax, points[true], points[predicted], look.colour, limits)
            expressed = points[points[true] > 0]  # no ratio to zero
            ratio = f"ratio {(expressed[predicted] / expressed[true]).median():.2g}".replace("-", "−")
            ax.set_title(f"{names[predictor]}\n{ratio}" if row == 0 else ratio)
            ax.set_xlabel(f"true {quantity}")
        for ax in axes[row::2, 0]:
            ax.set_ylabel(f"predicted {quantity}")
        for ax in axes[row::2, 1:].flat:
            ax.tick_params(labelleft=False)
    style.hide_empty(axes)
    style.foot(fig, EXPLANATION)
    return fig


def _limits(true: pd.Series, predicted: pd.Series) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the limits of both axes.

    Each starts at a power of ten below nearly all its values. Both end above the highest value of either.
    """
    top = 1.5 * max(true.max(), predicted.max())
    drawn = (true, predicted if (predicted > 0).any() else true)  # constant predictions have no variance
    floors = (np.percentile(values[values > 0], LOWEST_PERCENTILE) for values in drawn)
    across, up = (float(10 ** np.floor(np.log10(floor))) for floor in floors)
    return (across, top), (up, top)


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
        clip_on=False,  # points on the edge are drawn whole, above it
        zorder=3,
        rasterized=True,  # a PDF with thousands of circles per panel opens slowly
    )
    ax.plot(across, across, color="black", linewidth=0.5, zorder=4)
    ax.set(xscale="log", yscale="log", xlim=across, ylim=up, box_aspect=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_locator(NullLocator())
