"""Maps of the most spatially variable genes of a slide."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import Section

MAX_COLUMNS = 4
UNIT = "standard deviations\nabove the mean"
SMALLEST_Q = 0.001  # smaller values are printed as an upper bound


def deviations(values: np.ndarray) -> np.ndarray:
    """Standardise the columns of an (N, G) array; constant columns become 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)


def draw_variable_genes(
    section: Section,
    genes: pd.DataFrame,
    expression: pd.DataFrame,
    heading: str,
    pdf: str | os.PathLike,
    png: str | os.PathLike,
) -> None:
    """Draw genes over the slide in standard deviations above their mean.

    Spots have their true size.

    Parameters
    ----------
    section
        The slide with its N spots.
    genes
        gene, moran_i and q of each gene to draw, in order, such as the first rows of ``variable_genes.tsv``.
    expression
        (N, G) log-normalised expression with a column for each of them.
    heading
        Title of the figure.
    pdf, png
        Files to write.
    """
    values = deviations(expression[list(genes["gene"])].to_numpy(float))
    scale = spot_plot.colour_scale(values)
    tissue, extent = section.tissue()
    pictures = [] if section.thumbnail is None else ["H&E\n"]
    rows, columns = style.wrap(len(pictures) + len(genes), MAX_COLUMNS)
    rasterise = values.size > spot_plot.RASTER_ABOVE
    with style.page():
        fig, grid = style.panels(spot_plot.panel_size(section.window, rows, columns), (rows, columns), heading)
        axes = iter(grid.flat)
        for title in pictures:
            spot_plot.frame(next(axes), tissue, extent, section.window, title)
        for row, column in zip(genes.itertuples(), values.T, strict=True):
            ax = next(axes)
            title = f"{style.plain(row.gene)}\nI = {style.number(row.moran_i)}, {q_text(row.q)}"
            spot_plot.frame(ax, spot_plot.faded(tissue), extent, section.window, title)
            drawn = spot_plot.draw_spots(ax, section, rasterise, array=column, norm=scale)
        style.hide_empty(grid)
        if section.um_per_px is not None:
            spot_plot.draw_scale_bar(grid.flat[0], section.um_per_px)
        bar = spot_plot.draw_colour_bar(fig, drawn, grid)
        bar.set_label(UNIT, size=6)
        style.save(fig, pdf, png)


def q_text(q: float) -> str:
    """Format a corrected p value, such as ``q = 0.012`` or ``q < 0.001``."""
    if np.isnan(q):
        return "q –"
    return f"q < {SMALLEST_Q}" if q < SMALLEST_Q else f"q = {q:.3f}"
