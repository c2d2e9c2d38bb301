"""UMAP plots of a joint space, for one slide or for a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.domain_map import Colouring, colouring, draw_legend, free_colours, legend_height
from spotwise.reporting.figures.variable_gene_maps import UNIT, deviations

MAX_COLUMNS = 4
PANEL_HEIGHT, HEADING = 44 * style.MM, 8 * style.MM
AREA, SMALLEST, LARGEST = 1500, 0.5, 10  # total area of the points, and limits of one, in points squared


@style.page()
def draw_slide_umap(
    umap: pd.DataFrame,
    domains: pd.Series,
    colours: Colouring,
    expression: pd.DataFrame,
    space: str,
    heading: str,
) -> Figure:
    """Draw the UMAP of a slide, coloured by domain, label and genes.

    Parameters
    ----------
    umap
        barcode, umap1, umap2 of the N spots.
    domains
        (N,) domains in the same space by barcode.
    colours
        `domain_map.colouring` of the slide.
    expression
        (N, G) log-normalised expression by barcode, with a column for each gene to draw.
    """
    domains, classes = (series.reindex(umap["barcode"]) for series in (domains, colours.classes))
    colours = replace(colours, classes=classes)
    panels = [(f"Domains in {space}", colours.of_domains(domains))]
    panels += [("Labels", colours.of_classes())] if colours.labelled else []
    legend = colours.legend(drawn for _, drawn in panels)
    values = deviations(expression.reindex(umap["barcode"]).to_numpy(float))
    rows, columns = style.wrap(len(panels) + values.shape[1], MAX_COLUMNS)
    height = rows * PANEL_HEIGHT + HEADING + legend_height(legend, style.PAGE_WIDTH)
    fig, grid = style.panels((style.PAGE_WIDTH, height), (rows, columns), heading)
    axes = iter(grid.flat)
    for title, drawn in panels:
        _scatter(next(axes), umap, title, color=drawn)
    scale = spot_plot.colour_scale(values) if values.size else None
    for gene, column in zip(expression.columns, values.T, strict=True):
        points = _scatter(next(axes), umap, style.plain(gene), c=column, cmap=spot_plot.COLOURS, norm=scale)
    style.hide_empty(grid)
    if values.size:
        spot_plot.draw_colour_bar(fig, points, grid, UNIT)
    draw_legend(fig, legend)
    return fig


@style.page()
def draw_cohort_umap(
    umap: pd.DataFrame,
    domains: Mapping[str, pd.Series],
    labels: Mapping[str, pd.Series],
    classes: Sequence[str],
    space: str,
    heading: str,
) -> Figure:
    """Draw the UMAP of a cohort, coloured by slide, label and domain.

    Domains are found slide by slide. They have a panel only if labels give them colours that the slides share.

    Parameters
    ----------
    umap
        sample, barcode, umap1, umap2.
    domains, labels
        Slide -> domains in the space and labels, by barcode; empty ``labels`` for a cohort without.
    classes
        All classes of the labels.
    """
    by_label, by_domain, named = [], [], {}
    for sample, points in umap.groupby("sample", sort=False) if labels else ():
        found = domains[sample].reindex(points["barcode"])
        colours = colouring(found, labels[sample], classes)
        drawn = colours.of_classes(), colours.of_domains(found)
        by_label, by_domain, named = by_label + drawn[0], by_domain + drawn[1], named | colours.legend(drawn)
    slides = dict(zip(umap["sample"].unique(), free_colours(named.values()), strict=False))
    panels = [("Slides", list(umap["sample"].map(slides)))]
    panels += [("Labels", by_label), (f"Domains in {space}", by_domain)] if labels else []
    legend = {f"slide {name}": colour for name, colour in slides.items()} | named
    mixed = np.random.default_rng(0).permutation(len(umap))  # in order, the last slide would hide the others
    width = style.PAGE_WIDTH if labels else style.COLUMN_WIDTH
    height = width / len(panels) + HEADING + legend_height(legend, width)
    fig, grid = style.panels((width, height), (1, len(panels)), heading)
    for ax, (title, drawn) in zip(grid.flat, panels, strict=True):
        _scatter(ax, umap.iloc[mixed], title, color=np.array(drawn)[mixed])
    draw_legend(fig, legend)
    return fig


def _scatter(ax: Axes, umap: pd.DataFrame, title: str, **paint):
    size = np.clip(AREA / len(umap), SMALLEST, LARGEST)
    ax.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    return ax.scatter(
        umap["umap1"], umap["umap2"], s=size, linewidths=0, rasterized=len(umap) > spot_plot.RASTER_ABOVE, **paint
    )
