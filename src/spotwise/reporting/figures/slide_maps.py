"""Maps of the predicted expression of genes over a slide that was never sequenced."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spotwise.constants import SPATIAL
from spotwise.data.spot_array import spot_pitch
from spotwise.reporting.figures import spot_plot, style
from spotwise.reporting.figures.spot_plot import RASTER_ABOVE, Section
from spotwise.reporting.predicted_genes import UNITS, correlation, judgement

MOST_GENES = 12
COLUMNS = 4  # of genes; the slide and the likeness of its spots take two each
BAR_HEIGHT = 5 * style.MM  # of a colour bar with its numbers
TITLE_HEIGHT = 10 * style.MM  # of three lines
FRAME_HEIGHT = 16 * style.MM  # of heading and footnote
BACKGROUND_PX = 500  # of the picture under a map


def slide_section(prediction: AnnData, facts: Mapping[str, object], hires: str | os.PathLike) -> Section:
    """Lay the spots of a prediction, as wide as they lie apart, over the picture of their slide.

    ``facts`` are those of ``slide.json``.
    """
    centres = np.asarray(prediction.obsm[SPATIAL], dtype=np.float64)
    pitch = spot_pitch(centres) if len(centres) > 1 else np.inf
    um_per_px = float(facts["um_per_px"])
    diameter = pitch if np.isfinite(pitch) and pitch > 0 else spot_plot.SCALE_BARS_UM[3] / um_per_px
    return Section(centres, diameter, um_per_px, hires, (int(facts["width"]), int(facts["height"])))


@style.page()
def draw_slide_maps(
    prediction: AnnData,
    genes: Sequence[str],
    facts: Mapping[str, object],
    hires: str | os.PathLike,
    heading: str,
    left_out: str,
) -> Figure:
    """Draw a slide, the likeness of its spots to the training spots, and maps of genes.

    Each gene has its own colours, from the 2nd to the 98th percentile of its values. Its title gives its correlation in
    the cross-validation, with the interval, and whether it is reliable.

    Parameters
    ----------
    prediction
        Spots x genes with ``obs["similarity"]`` and reliability in ``var``.
    genes
        Genes to draw, of which the first `MOST_GENES` are.
    facts, hires
        As for `slide_section`.
    left_out
        What the cross-validation left out, ``patient`` or ``slide``.
    """
    drawn = list(genes)[:MOST_GENES]
    section = slide_section(prediction, facts, hires)
    tissue, extent = section.tissue()
    step = -(-max(tissue.shape) // BACKGROUND_PX)
    background = spot_plot.faded(tissue[::step, ::step])
    rasterise = prediction.n_obs * (1 + len(drawn)) > RASTER_ABOVE
    fig, slide, alike, axes = _layout(section.window, len(drawn), heading)
    spot_plot.frame(slide, tissue, extent, section.window, "H&E")
    spot_plot.draw_scale_bar(slide, section.um_per_px)

    def draw(ax: Axes, values: np.ndarray, scale: Normalize, title: str, colours: str) -> None:
        spot_plot.frame(ax, background, extent, section.window, title)
        spots = spot_plot.draw_spots(ax, section, rasterise, array=values, norm=scale)
        spots.set_cmap(colours)
        bar = fig.colorbar(spots, ax=ax, location="bottom", fraction=0.05, pad=0.02, aspect=30, shrink=0.8)
        bar.outline.set_linewidth(0.5)
        bar.set_ticks([scale.vmin, scale.vmax], labels=[_short(scale.vmin), _short(scale.vmax)])

    likeness = prediction.obs["similarity"].to_numpy(float)
    n_unlike = int(prediction.obs["unlike"].sum())
    title = f"Similarity to the training spots\n{n_unlike} of {prediction.n_obs} spots unlike any"
    draw(alike, likeness, Normalize(0, 1), title, "cividis")
    for ax, gene in zip(axes, drawn, strict=True):
        values = np.asarray(prediction.X[:, prediction.var_names.get_loc(gene)], dtype=np.float64)
        row = prediction.var.loc[gene]
        title = f"{style.plain(gene)}\nPCC {correlation(row)}\n{judgement(row)}"
        draw(ax, values, spot_plot.colour_scale(values), title, spot_plot.COLOURS)
        ax.title.set_color("black" if row["reliable"] else "#B00020")
    style.foot(fig, _footnote(len(drawn), len(genes), left_out))
    return fig


def _layout(window: tuple[float, ...], n_genes: int, heading: str) -> tuple[Figure, Axes, Axes, list[Axes]]:
    """Create a page with two large panels and a grid of small ones, lower if a page would be."""
    rows = -(-n_genes // COLUMNS)
    left, right, bottom, top = window
    aspect = (bottom - top) / (right - left)
    fixed = FRAME_HEIGHT + (1 + rows) * (TITLE_HEIGHT + BAR_HEIGHT)
    panel = min(style.PAGE_WIDTH / COLUMNS, (style.PAGE_HEIGHT - fixed) / (2 + rows) / aspect)
    fig = Figure(figsize=(style.PAGE_WIDTH, fixed + (2 + rows) * panel * aspect), layout="constrained")
    fig.suptitle(style.plain(heading))
    large, small = TITLE_HEIGHT + BAR_HEIGHT + 2 * panel * aspect, TITLE_HEIGHT + BAR_HEIGHT + panel * aspect
    grid = fig.add_gridspec(1 + rows, COLUMNS, height_ratios=[large, *[small] * rows])
    half = COLUMNS // 2
    slide, alike = fig.add_subplot(grid[0, :half]), fig.add_subplot(grid[0, half:])
    maps = [fig.add_subplot(grid[1 + place // COLUMNS, place % COLUMNS]) for place in range(n_genes)]
    return fig, slide, alike, maps


def _footnote(n_drawn: int, n_chosen: int, left_out: str) -> str:
    if not n_drawn:
        return "No gene of this model is reliable, and none is drawn. predict.genes: panel draws them all the same."
    others = f" The first {n_drawn} of {n_chosen} chosen genes are drawn." if n_chosen > n_drawn else ""
    return (
        "Predicted log-normalised expression; each map has its own colours, from the 2nd to the 98th percentile of its "
        f"values. PCC: correlation with measured expression in {UNITS[left_out]} left out of the training, with its "
        f"95 % interval.{others}"
    )


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
