"""Figs. 5-7 and Supplementary Figs. 1-3: the expression of a gene over the slide, truth beside prediction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from spotwise.contracts import OBSERVED, PROVENANCE, SPATIAL
from spotwise.errors import InputError
from spotwise.figures import style
from spotwise.metrics import gene_ranks, pearson_per_gene, read_prediction, read_slide

MAX_COLUMNS = 6
PANELS_SHARE = 0.9  # of the figure's width; the rest is for the colour bars
COLOURS = "viridis"
PERCENTILES = (2, 98)  # of the truth: one outlier spot must not set the scale
THUMBNAIL_WHITE = 0.55  # share of white over the tissue, so that the spots carry the colour
RASTER_ABOVE = 2000  # spots per figure from which a PDF of circles is a burden to open
SCALE_BARS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SCALE_BAR_SHARE = 0.3  # of the panel's width, at most
SCALE_BAR_DROP = 1.8 * style.MM
EXPRESSION_UNIT = "log expression\nabove mean"  # two lines fit a low colour bar
MIN_PANEL_WIDTH = 26 * style.MM  # room for the name of a predictor
TITLES_HEIGHT = 9 * style.MM


def choose_genes(prediction_path: str | os.PathLike, wanted: Sequence[str], n: int) -> list[str]:
    """Choose genes to draw: the wanted ones that this slide and panel have, filled up with its top HVG.

    Parameters
    ----------
    prediction_path
        Any predictor's prediction of the slide.
    wanted
        Genes named in the config; those absent from the panel or not measured are passed over.
    n
        How many to return, if the panel has them. Wanted genes are never cut.
    """
    ranks = gene_ranks(read_prediction(prediction_path).var)["rank_var"]
    measured = ranks[ranks > 0].sort_values().index
    chosen = [gene for gene in dict.fromkeys(wanted) if gene in measured]
    others = [gene for gene in measured if gene not in chosen]
    return chosen + others[: max(0, n - len(chosen))]


def expression_maps(
    prediction_paths: Mapping[str, str | os.PathLike],
    genes: Sequence[str],
    thumbnail_png: str | os.PathLike,
    slide_size: tuple[int, int],
    um_per_px: float,
    spot_diameter_um: float,
    pdf: str | os.PathLike,
    png: str | os.PathLike,
) -> None:
    """Draw genes over the slide: a row per gene with the H&E image, the truth, then each predictor.

    Colours tell how far a spot is from the mean of its own map: the level of a whole slide, which predictions may miss
    (Fig. 3), would else drown the pattern. All maps of a gene share one scale, the truth's 2nd to 98th percentile,
    as predictions shrink towards the mean, and a scale of their own would hide that.

    Parameters
    ----------
    prediction_paths
        Predictor -> prediction file, in display order; all of one slide and fold.
    genes
        Measured genes of the panel (`choose_genes`).
    thumbnail_png
        The whole slide, small, in the slide's proportions.
    slide_size
        Width and height of the slide's level 0, pixels.
    um_per_px
        Microns per pixel of level 0.
    spot_diameter_um
        Diameter of a spot on the tissue, microns.
    pdf, png
        Files to write.

    Raises
    ------
    InputError
        A gene is not measured or not in the panel, or the files do not belong together.
    """
    slide = read_slide(prediction_paths)
    first = next(iter(slide.values()))
    source = next(iter(prediction_paths.values()))
    measured = set(first.var_names[first.var["is_measured"].to_numpy(bool)])
    if missing := [gene for gene in genes if gene not in measured]:
        raise InputError(source, "genes", ", ".join(missing), "genes that the panel holds and the slide measures")

    centres = np.asarray(first.obsm[SPATIAL], dtype=np.float64)
    diameter = spot_diameter_um / um_per_px
    window = _window(centres, diameter)
    tissue, extent = _tissue(thumbnail_png, slide_size, window)
    faded = THUMBNAIL_WHITE + (1 - THUMBNAIL_WHITE) * tissue
    rows_per_gene, columns = style.wrap(2 + len(slide), MAX_COLUMNS)
    rasterise = len(centres) * len(genes) * (1 + len(slide)) > RASTER_ABOVE
    width, height = _size(window, len(genes) * rows_per_gene, columns)
    with style.page():
        fig = Figure(figsize=(width, height), layout="constrained")
        fig.suptitle(style.run_title(first.uns[PROVENANCE]))
        grid = fig.subplots(len(genes) * rows_per_gene, columns, squeeze=False)
        for row, gene in enumerate(genes):
            axes = grid[row * rows_per_gene : (row + 1) * rows_per_gene]
            truth = _column(first, gene, truth=True)
            scale = _colour_scale(truth - truth.mean())
            panels = [(f"{gene}\ntruth", truth)]
            for predictor, prediction in slide.items():
                values = _column(prediction, gene)
                pcc, _ = pearson_per_gene(values[:, None], truth[:, None])
                title = style.title(predictor, PANELS_SHARE * width / columns)
                panels.append((f"{title}\nPCC = {style.number(pcc[0])}", values))
            image, *maps = axes.flat
            _frame(image, tissue, extent, window, "H&E")
            _draw_scale_bar(image, um_per_px)
            for ax, (title, values) in zip(maps, panels, strict=False):
                _frame(ax, faded, extent, window, title)
                spots = _draw_spots(ax, centres, diameter, values - values.mean(), scale, rasterise)
            for ax in maps[len(panels) :]:
                ax.set_visible(False)
            bar = fig.colorbar(
                spots, ax=axes, location="right", fraction=0.03, aspect=20 * rows_per_gene, extend="both"
            )
            bar.set_label(EXPRESSION_UNIT, size=6)
            bar.ax.locator_params(nbins=4)
            bar.outline.set_linewidth(0.5)
        style.save(fig, pdf, png)


def _frame(ax: Axes, tissue: np.ndarray, extent: list[float], window: tuple[float, ...], title: str) -> None:
    ax.imshow(tissue, extent=extent)
    ax.set(title=title, xlim=window[:2], ylim=window[2:], xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _column(prediction: AnnData, gene: str, truth: bool = False) -> np.ndarray:
    """(N,) expression of one gene."""
    values = prediction.layers[OBSERVED] if truth else prediction.X
    return np.asarray(values[:, prediction.var_names.get_loc(gene)], dtype=np.float64)


def _colour_scale(values: np.ndarray) -> Normalize:
    low, high = np.percentile(values, PERCENTILES)
    if low == high:  # a gene that nearly all spots lack
        low, high = values.min(), values.max()
    return Normalize(low, high if high > low else low + 1)


def _window(centres: np.ndarray, diameter: float) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the spots with a margin of one diameter, level-0 px; y runs down."""
    (left, top), (right, bottom) = centres.min(axis=0) - 1.5 * diameter, centres.max(axis=0) + 1.5 * diameter
    return left, right, bottom, top


def _tissue(thumbnail_png, slide_size: tuple[int, int], window: tuple[float, ...]) -> tuple[np.ndarray, list[float]]:
    """The thumbnail under the window, values in 0 to 1, and its extent in level-0 px."""
    with Image.open(thumbnail_png) as image:
        scale = np.array(image.size) / np.array(slide_size)
        left, right, bottom, top = window
        corner = np.clip(np.floor(np.array([left, top]) * scale), 0, np.array(image.size) - 1).astype(int)
        opposite = np.clip(np.ceil(np.array([right, bottom]) * scale), corner + 1, image.size).astype(int)
        pixels = np.asarray(image.convert("RGB").crop((*corner, *opposite)), dtype=np.float64) / 255
    (x0, y0), (x1, y1) = corner / scale, opposite / scale
    return pixels, [x0, x1, y1, y0]


def _size(window: tuple[float, ...], rows: int, columns: int) -> tuple[float, float]:
    """Page-wide figure whose panels have the window's proportions; narrower where that would be too tall for a page.

    Panels stay as wide as their titles, though: with many predictors the figure is longer than a page.
    """
    left, right, bottom, top = window
    aspect = (bottom - top) / (right - left)
    room = PANELS_SHARE * style.PAGE_WIDTH
    height = rows * (aspect * room / columns + TITLES_HEIGHT) + TITLES_HEIGHT
    if height <= style.PAGE_HEIGHT:
        return style.PAGE_WIDTH, height
    panel = max((style.PAGE_HEIGHT - (rows + 1) * TITLES_HEIGHT) / rows / aspect, MIN_PANEL_WIDTH)
    height = rows * (aspect * panel + TITLES_HEIGHT) + TITLES_HEIGHT
    return max(style.COLUMN_WIDTH, panel * columns / PANELS_SHARE), max(style.PAGE_HEIGHT, height)


def _draw_spots(ax: Axes, centres, diameter: float, values, scale: Normalize, rasterise: bool) -> EllipseCollection:
    n_spots = len(centres)
    spots = EllipseCollection(
        np.full(n_spots, diameter),
        np.full(n_spots, diameter),
        np.zeros(n_spots),
        units="xy",
        offsets=centres,
        offset_transform=ax.transData,
        array=values,
        cmap=COLOURS,
        norm=scale,
        linewidths=0,
        rasterized=rasterise,
    )
    return ax.add_collection(spots, autolim=False)


def _draw_scale_bar(ax: Axes, um_per_px: float) -> None:
    """A bar of a round length at the foot of the panel, outside the tissue."""
    left, right = ax.get_xlim()
    room = SCALE_BAR_SHARE * (right - left) * um_per_px
    length = max([um for um in SCALE_BARS_UM if um <= room], default=SCALE_BARS_UM[0])
    width = length / um_per_px / (right - left)
    below = ax.transAxes + ScaledTranslation(0, -SCALE_BAR_DROP, ax.figure.dpi_scale_trans)
    ax.plot([0, width], [0, 0], color="black", linewidth=1.2, transform=below, clip_on=False)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    ax.text(width + 0.03, 0, label, transform=below, size=6, ha="left", va="center")
