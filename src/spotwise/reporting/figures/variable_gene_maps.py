"""The genes that vary most over the slide, each drawn where it is high and low."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import Section

MAX_COLUMNS = 4
UNIT = "standard deviations\nabove the mean"
SMALLEST_Q = 0.001  # what is smaller is called so


def deviations(values: np.ndarray) -> np.ndarray:
    """(N, G) distance of each value from its column's mean in the column's standard deviations; 0 where it has none."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)


def variable_gene_maps(
    section: Section,
    genes: pd.DataFrame,
    expression: pd.DataFrame,
    heading: str,
    pdf: str | os.PathLike,
    png: str | os.PathLike,
) -> None:
    """Draw genes over the slide, at the spots' true size, in standard deviations above their means.

    Parameters
    ----------
    section
        The slide with its N spots.
    genes
        gene, moran_i and q of each gene to draw, in order: the first rows of ``variable_genes.tsv``, say.
    expression
        (N, G) log-normalised expression, with a column for each of them.
    heading
        Over the figure.
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
        fig = Figure(figsize=spot_plot.panel_size(section.window, rows, columns), layout="constrained")
        fig.suptitle(heading)
        grid = fig.subplots(rows, columns, squeeze=False)
        axes = iter(grid.flat)
        for title in pictures:
            spot_plot.frame(next(axes), tissue, extent, section.window, title)
        for row, column in zip(genes.itertuples(), values.T, strict=True):
            ax = next(axes)
            title = f"{style.plain(row.gene)}\nI = {style.number(row.moran_i)}, {q_text(row.q)}"
            spot_plot.frame(ax, spot_plot.faded(tissue), extent, section.window, title)
            drawn = spot_plot.draw_spots(ax, section, rasterise, array=column, norm=scale)
        for ax in axes:
            ax.set_visible(False)
        if section.um_per_px is not None:
            spot_plot.draw_scale_bar(grid.flat[0], section.um_per_px)
        bar = spot_plot.draw_colour_bar(fig, drawn, grid)
        bar.set_label(UNIT, size=6)
        style.save(fig, pdf, png)


def q_text(q: float) -> str:
    """A corrected p-value for print: ``q = 0.012``, ``q < 0.001``, ``q –`` where there is none."""
    if np.isnan(q):
        return "q –"
    return f"q < {SMALLEST_Q}" if q < SMALLEST_Q else f"q = {q:.3f}"
