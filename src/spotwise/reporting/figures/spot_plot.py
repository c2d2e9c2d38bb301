"""Panels of spots over the picture of their slide, side by side at one scale."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from spotwise.constants import SPATIAL
from spotwise.data import hest
from spotwise.data.spot_array import spot_pitch
from spotwise.errors import InputError
from spotwise.reporting.figures import style

MAX_COLUMNS, MAX_WIDE_COLUMNS = 6, 4
PANELS_SHARE = 0.9  # of the figure's width; the rest is for the colour bars
COLOURS = "viridis"
PERCENTILES = (2, 98)  # of the values, so that outlier spots do not set the scale
THUMBNAIL_WHITE = 0.55  # share of white over the tissue, so that the spots stand out
RASTER_ABOVE = 2000  # spots per figure above which a PDF of circles opens slowly
SCALE_BARS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SCALE_BAR_SHARE = 0.3  # of the panel's width, at most
SCALE_BAR_DROP = 1.8 * style.MM
MIN_PANEL_WIDTH = 26 * style.MM  # room for the name of a predictor
TITLES_HEIGHT = 9 * style.MM
DIAMETER_SHARE = 0.5  # of the spots' pitch where their size is unknown, as in Spatial Transcriptomics


@dataclass(frozen=True)
class Section:
    """Spots and picture of a slide.

    Attributes
    ----------
    centres
        (N, 2) x and y of the spots, pixels of the slide's level 0.
    diameter
        Diameter of a spot, pixels of level 0.
    um_per_px
        Microns per pixel of level 0; None if unknown, and then there is no scale bar.
    thumbnail
        The whole slide at low resolution, in its proportions; None without a slide.
    slide_size
        Width and height of the slide's level 0, pixels; None without a slide.
    """

    centres: np.ndarray
    diameter: float
    um_per_px: float | None = None
    thumbnail: str | os.PathLike | None = None
    slide_size: tuple[int, int] | None = None

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the spots and their margin.

        In pixels of level 0, where y runs down.
        """
        margin = 1.5 * self.diameter
        (left, top), (right, bottom) = self.centres.min(axis=0) - margin, self.centres.max(axis=0) + margin
        return left, right, bottom, top

    def tissue(self) -> tuple[np.ndarray, list[float]]:
        """Return the thumbnail under the window and its extent in pixels of level 0.

        Values lie in 0 to 1. Without a slide the picture is white.
        """
        left, right, bottom, top = self.window
        if self.thumbnail is None:
            return np.ones((1, 1, 3)), [left, right, bottom, top]
        with Image.open(self.thumbnail) as image:
            scale = np.array(image.size) / np.array(self.slide_size)
            corner = np.clip(np.floor(np.array([left, top]) * scale), 0, np.array(image.size) - 1).astype(int)
            opposite = np.clip(np.ceil(np.array([right, bottom]) * scale), corner + 1, image.size).astype(int)
            pixels = np.asarray(image.convert("RGB").crop((*corner, *opposite)), dtype=np.float64) / 255
        (x0, y0), (x1, y1) = corner / scale, opposite / scale
        return pixels, [x0, x1, y1, y0]


def read_section(
    lognorm_h5ad: str | os.PathLike,
    qc_json: str | os.PathLike,
    barcodes: Sequence[str],
    thumbnail_png: str | os.PathLike | None = None,
    metadata_json: str | os.PathLike | None = None,
) -> Section:
    """Read the picture of a slide and the places of its ``barcodes``.

    Parameters
    ----------
    lognorm_h5ad
        Any AnnData with the slide's spots and ``obsm["spatial"]``.
    qc_json
        File with ``um_per_px``, null if unknown.
    thumbnail_png, metadata_json
        Picture of the slide and HEST metadata (slide and spot size); None for a sample without a slide, whose spots are
        drawn with half their pitch as diameter.

    Raises
    ------
    InputError
        If a barcode is not among the slide's spots, or the metadata lacks the slide's size.
    """
    import anndata  # takes half a second, which modules that only need colours save

    content = anndata.read_h5ad(lognorm_h5ad, backed="r")
    rows = content.obs_names.get_indexer(barcodes)
    if missing := [barcode for barcode, row in zip(barcodes, rows, strict=True) if row < 0]:
        raise InputError(lognorm_h5ad, "obs", f"no spot {missing[0]}", "the spots of the domains")
    everywhere = np.asarray(content.obsm[SPATIAL], dtype=np.float64)
    content.file.close()
    um_per_px = json.loads(Path(qc_json).read_text(encoding="utf-8"))["um_per_px"]
    if metadata_json is None:
        return Section(everywhere[rows], DIAMETER_SHARE * spot_pitch(everywhere), um_per_px)
    metadata = hest.read_metadata(metadata_json)
    diameter = hest.spot_diameter_um(metadata, metadata_json) / um_per_px
    return Section(everywhere[rows], diameter, um_per_px, thumbnail_png, hest.slide_size(metadata, metadata_json))


def faded(tissue: np.ndarray) -> np.ndarray:
    """Mix white into a picture."""
    return THUMBNAIL_WHITE + (1 - THUMBNAIL_WHITE) * tissue


def panel_size(window: tuple[float, ...], rows: int, columns: int, share: float = PANELS_SHARE) -> tuple[float, float]:
    """Return the size in inches of a figure whose panels have the window's proportions.

    The figure is as wide as a page, or narrower if it would be taller than one. Panels stay as wide as their titles, so
    a figure of many predictors may be longer than a page. ``share`` of the width is for the panels.
    """
    left, right, bottom, top = window
    aspect = (bottom - top) / (right - left)
    room = share * style.PAGE_WIDTH
    height = rows * (aspect * room / columns + TITLES_HEIGHT) + TITLES_HEIGHT
    if height <= style.PAGE_HEIGHT:
        return style.PAGE_WIDTH, height
    panel = max((style.PAGE_HEIGHT - (rows + 1) * TITLES_HEIGHT) / rows / aspect, MIN_PANEL_WIDTH)
    height = rows * (aspect * panel + TITLES_HEIGHT) + TITLES_HEIGHT
    return max(style.COLUMN_WIDTH, panel * columns / share), max(style.PAGE_HEIGHT, height)


def colour_scale(values: np.ndarray) -> Normalize:
    """Return a scale over the 2nd to 98th percentile of ``values``."""
    low, high = np.percentile(values, PERCENTILES)
    if low == high:  # a gene missing from nearly all spots
        low, high = values.min(), values.max()
    return Normalize(low, high if high > low else low + 1)


def draw_on_slide(
    section: Section, panels: Sequence[tuple[str, dict]], heading: str, share: float = PANELS_SHARE
) -> tuple[Figure, np.ndarray]:
    """Draw the slide, if it has a picture, and panels of spots.

    Each panel has a title and the paint of `draw_spots`; ``share`` is that of `panel_size`. Returns the figure and its
    grid of axes.
    """
    tissue, extent = section.tissue()
    has_picture = section.thumbnail is not None
    rows, columns = style.wrap(has_picture + len(panels), MAX_WIDE_COLUMNS)
    rasterise = len(section.centres) * len(panels) > RASTER_ABOVE
    fig, grid = style.panels(panel_size(section.window, rows, columns, share), (rows, columns), heading)
    if has_picture:
        frame(grid.flat[0], tissue, extent, section.window, "H&E\n")
    for ax, (title, paint) in zip(grid.flat[has_picture:], panels, strict=False):
        frame(ax, faded(tissue), extent, section.window, title)
        draw_spots(ax, section, rasterise, **paint)
    style.hide_empty(grid)
    if section.um_per_px is not None:
        draw_scale_bar(grid.flat[0], section.um_per_px)
    return fig, grid


def frame(ax: Axes, tissue: np.ndarray, extent: list[float], window: tuple[float, ...], title: str) -> None:
    """Draw the picture under the window, without axes."""
    ax.imshow(tissue, extent=extent)
    ax.set(title=title, xlim=window[:2], ylim=window[2:], xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def draw_spots(ax: Axes, section: Section, rasterise: bool, **paint) -> EllipseCollection:
    """Draw the spots at their true size.

    ``paint`` is ``array`` with ``norm``, or ``facecolors``.
    """
    n_spots = len(section.centres)
    diameters = np.full(n_spots, section.diameter)
    spots = EllipseCollection(
        diameters,
        diameters,
        np.zeros(n_spots),
        units="xy",
        offsets=section.centres,
        offset_transform=ax.transData,
        cmap=COLOURS,
        linewidths=0,
        rasterized=rasterise,
        **paint,
    )
    return ax.add_collection(spots, autolim=False)


def draw_colour_bar(fig: Figure, drawn: ScalarMappable, axes: np.ndarray, unit: str) -> Colorbar:
    """Draw a colour bar beside a grid of panels, at most two rows long."""
    rows = len(axes)
    shown = min(rows, 2)
    bar = fig.colorbar(
        drawn, ax=axes, location="right", fraction=0.03, shrink=shown / rows, aspect=20 * shown, extend="both"
    )
    bar.outline.set_linewidth(0.5)
    bar.set_label(unit, size=6)
    return bar


def draw_scale_bar(ax: Axes, um_per_px: float) -> None:
    """Draw a bar of a round length below the panel."""
    left, right = ax.get_xlim()
    room = SCALE_BAR_SHARE * (right - left) * um_per_px
    length = max([um for um in SCALE_BARS_UM if um <= room], default=SCALE_BARS_UM[0])
    width = length / um_per_px / (right - left)
    below = ax.transAxes + ScaledTranslation(0, -SCALE_BAR_DROP, ax.figure.dpi_scale_trans)
    ax.plot([0, width], [0, 0], color="black", linewidth=1.2, transform=below, clip_on=False)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    ax.text(width + 0.03, 0, label, transform=below, size=6, ha="left", va="center")
