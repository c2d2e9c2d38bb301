"""Maps of the most spatially variable genes of a slide."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import Section
from spotwise.reporting.number_format import number

UNIT = "standard deviations\nabove the mean"
SMALLEST_Q = 0.001  # smaller values are printed as an upper bound


def deviations(values: np.ndarray) -> np.ndarray:
    """Standardise the columns of an (N, G) array, constant ones to 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)


@style.page()
def draw_variable_genes(section: Section, genes: pd.DataFrame, expression: pd.DataFrame, heading: str) -> Figure:
    """Draw genes over the slide in standard deviations above their mean.

    ``genes`` has gene, moran_i and q of each gene to draw, in order, such as the first rows of ``variable_genes.tsv``,
    and ``expression`` their log-normalised values, (N, G). The N spots are drawn at their true size.
    """
    values = deviations(expression[list(genes["gene"])].to_numpy(float))
    scale = spot_plot.colour_scale(values)
    panels = []
    for row, column in zip(genes.itertuples(), values.T, strict=True):
        title = f"{style.plain(row.gene)}\nI = {number(row.moran_i)}, {q_text(row.q)}"
        panels.append((title, {"array": column, "norm": scale}))
    fig, grid = spot_plot.draw_on_slide(section, panels, heading)
    spot_plot.draw_colour_bar(fig, ScalarMappable(scale, spot_plot.COLOURS), grid, UNIT)
    return fig


def q_text(q: float) -> str:
    """Format a corrected p value, such as ``q = 0.012`` or ``q < 0.001``."""
    if np.isnan(q):
        return "q –"
    return f"q < {SMALLEST_Q}" if q < SMALLEST_Q else f"q = {q:.3f}"
