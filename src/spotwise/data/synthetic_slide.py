"""Synthetic H&E slides: tissue painted in two stains and written as a pyramid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from spotwise.data.synthetic_tissue import CELL_UM, DOMAINS, CohortSize, Tissue, extent_um, random_stream
from spotwise.runtime.files import atomic

TILE_PX = 256  # as in HEST's slides


@dataclass(frozen=True)
class Stain:
    """Stain and scanner of a patient's slides."""

    haematoxylin: np.ndarray  # (3,) optical density of unit stain in red, green and blue
    eosin: np.ndarray  # likewise
    white: np.ndarray  # (3,) colour of empty glass, 0-255
    um_per_px: float  # of level 0


@dataclass(frozen=True)
class _Morphology:
    """Background stains of a domain, and density, half axes and stain of nuclei."""

    eosin: float
    haematoxylin: float
    nuclei_per_mm2: float
    long_um: float
    short_um: float
    nucleus: float


_MORPHOLOGY = {
    "tumour": _Morphology(0.26, 0.22, 4200, 5.2, 4.2, 0.95),
    "gland": _Morphology(0.20, 0.06, 900, 4.0, 1.8, 1.05),
    "stroma": _Morphology(0.42, 0.03, 1300, 6.5, 1.6, 1.10),
    "immune": _Morphology(0.14, 0.14, 9000, 2.9, 2.7, 1.45),
}
_CELLULARITY_EFFECT = 0.35  # log density of nuclei per unit of cellularity
_OD = 100  # grey values per unit of stain, in 8-bit layers

_FIBRE_EOSIN = (0.16, 0.34, 0.62, 0.75)  # pale and strong fibres
_FIBRE_HALF_UM = (8.0, 22.0)

_GLAND_SPACING_UM = 72.0
_LUMEN_UM = (9.0, 17.0)  # half axes
_EPITHELIUM_UM = 13.0  # thickness
_EPITHELIUM_EOSIN, _EPITHELIUM_HAEMATOXYLIN, _LUMEN_STAIN = 0.36, 0.12, 0.02
_EPITHELIAL_NUCLEUS_UM = (3.6, 2.2)  # half axes, the long one across the epithelium
_EPITHELIAL_SPACING_UM = 7.2  # between nuclei around the lumen


def patient_stain(cohort_seed: int, patient: str) -> Stain:
    """Draw stain and scanner of a patient.

    The optical densities of haematoxylin and eosin (Ruifrok & Johnston 2001) are varied.
    """
    rng = random_stream(cohort_seed, "stain", patient)
    haematoxylin = np.array([0.65, 0.70, 0.29]) * rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.15)
    eosin = np.array([0.07, 0.99, 0.11]) * rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.15)
    return Stain(haematoxylin, eosin, rng.uniform(236, 248, 3), float(rng.uniform(0.48, 0.55)))


def paint_slide(rng: np.random.Generator, tissue: Tissue, stain: Stain, size: CohortSize) -> Image.Image:
    """Paint a square RGB slide in two stains by Beer and Lambert's law."""
    edge_px = round(extent_um(size) / stain.um_per_px)
    brush = _Brush(rng, tissue, stain.um_per_px)
    eosin, haematoxylin = (brush.background(layer, edge_px) for layer in ("eosin", "haematoxylin"))
    brush.fibres(eosin)
    eosin = ImageChops.multiply(eosin, _grain(rng, edge_px))
    glands = brush.glands(eosin, haematoxylin)
    brush.nuclei(haematoxylin, glands)
    eosin, haematoxylin = (layer.filter(ImageFilter.BoxBlur(1)) for layer in (eosin, haematoxylin))
    od = np.arange(256) / _OD
    channels = []
    for h, e, white in zip(stain.haematoxylin, stain.eosin, stain.white, strict=True):
        light = haematoxylin.point((white * np.exp(-od * h)).round().astype(int).tolist())
        channels.append(ImageChops.multiply(light, eosin.point((255 * np.exp(-od * e)).round().astype(int).tolist())))
    return Image.merge("RGB", channels)


def _grain(rng: np.random.Generator, edge_px: int) -> Image.Image:
    tile = gaussian_filter(rng.normal(size=(512, 512)), 2.0, mode="wrap")
    tile = np.clip(215 + 25 * tile / tile.std(), 0, 255).astype(np.uint8)
    repeats = math.ceil(edge_px / 512)
    return Image.fromarray(np.tile(tile, (repeats, repeats))[:edge_px, :edge_px])


class _Brush:
    """Paint tissue, laid out in micrometres, on stain layers in pixels."""

    def __init__(self, rng: np.random.Generator, tissue: Tissue, um_per_px: float):
        self.rng = rng
        self.tissue = tissue
        self.cell_px = CELL_UM / um_per_px
        self.px = 1 / um_per_px

    def background(self, stain: str, edge_px: int) -> Image.Image:
        """Start a layer with each domain's mean stain, faded at the outline."""
        level = np.array([getattr(_MORPHOLOGY[domain], stain) for domain in DOMAINS])[self.tissue.domain]
        coarse = gaussian_filter(np.where(self.tissue.mask, level, 0.0), 0.7) * _OD
        extent = min(edge_px / self.cell_px, len(coarse))  # the last cell may reach beyond the slide
        return Image.fromarray(coarse.round().astype(np.uint8)).resize(
            (edge_px, edge_px), Image.Resampling.BILINEAR, (0, 0, extent, extent)
        )

    def _scatter(self, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Choose cells (row, column), and a point (x, y) in pixels in each."""
        row, column = np.nonzero(self.rng.random(probability.shape) < probability * self.tissue.mask)
        shift = self.rng.random((2, len(row)))
        return row, column, (column + shift[0]) * self.cell_px, (row + shift[1]) * self.cell_px

    def fibres(self, eosin: Image.Image) -> None:
        """Draw the collagen fibres of the stroma, slightly bent."""
        row, column, x, y = self._scatter(0.5 * (self.tissue.domain == DOMAINS.index("stroma")))
        angle = self.tissue.fibre_angle[row, column] + self.rng.normal(0, 0.12, len(row))
        half = self.rng.uniform(*_FIBRE_HALF_UM, len(row)) * self.px
        bend = self.rng.normal(0, 2.0, len(row)) * self.px
        dx, dy = half * np.cos(angle), half * np.sin(angle)
        middle_x, middle_y = x - bend * np.sin(angle), y + bend * np.cos(angle)
        lines = np.stack([x - dx, y - dy, middle_x, middle_y, x + dx, y + dy], axis=1).round().astype(int).tolist()
        stains = (self.rng.choice(_FIBRE_EOSIN, len(row)) * _OD).astype(int).tolist()
        widths = self.rng.integers(2, 6, len(row)).tolist()
        draw = ImageDraw.Draw(eosin)
        for line, stain, width in zip(lines, stains, widths, strict=True):
            draw.line(line, fill=stain, width=width)

    def glands(self, eosin: Image.Image, haematoxylin: Image.Image) -> np.ndarray:
        """Draw epithelium around empty lumens, and return a mask of covered cells."""
        covered = np.zeros_like(self.tissue.mask)
        home = self.tissue.mask & (self.tissue.domain == DOMAINS.index("gland"))
        draw_eosin, draw_haematoxylin = ImageDraw.Draw(eosin), ImageDraw.Draw(haematoxylin)
        for x, y in self._gland_centres():
            row, column = np.clip(np.array([y, x]) / CELL_UM, 0, len(covered) - 1).astype(int)
            if not home[row, column]:
                continue
            lumen = self.rng.uniform(*_LUMEN_UM, 2)
            outer = lumen + _EPITHELIUM_UM
            for layer, epithelium in (
                (draw_eosin, _EPITHELIUM_EOSIN),
                (draw_haematoxylin, _EPITHELIUM_HAEMATOXYLIN),
            ):
                layer.ellipse(self._bounds(x, y, outer), fill=round(epithelium * _OD))
                layer.ellipse(self._bounds(x, y, lumen), fill=round(_LUMEN_STAIN * _OD))
            self._ring_of_nuclei(draw_haematoxylin, x, y, lumen + 0.6 * _EPITHELIUM_UM)
            reach = math.ceil(max(outer) / CELL_UM)
            covered[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
        return covered

    def _gland_centres(self) -> np.ndarray:
        """Place centres (n, 2) in micrometres on a jittered square lattice."""
        n = math.ceil(len(self.tissue.mask) * CELL_UM / _GLAND_SPACING_UM)
        lattice = (np.indices((n, n)).reshape(2, -1).T + 0.5) * _GLAND_SPACING_UM
        return lattice + self.rng.normal(0, 10.0, lattice.shape)

    def _bounds(self, x: float, y: float, half: np.ndarray) -> list[float]:
        return [(x - half[0]) * self.px, (y - half[1]) * self.px, (x + half[0]) * self.px, (y + half[1]) * self.px]

    def _ring_of_nuclei(self, draw: ImageDraw.ImageDraw, x: float, y: float, radius: np.ndarray) -> None:
        n = int(2 * np.pi * radius.mean() / _EPITHELIAL_SPACING_UM)
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        angle += self.rng.normal(0, 0.05, n)
        centre_x, centre_y = x + radius[0] * np.cos(angle), y + radius[1] * np.sin(angle)
        half = (np.full(n, half_um) for half_um in _EPITHELIAL_NUCLEUS_UM)
        self._ellipses(draw, centre_x * self.px, centre_y * self.px, *half, angle, self.rng.uniform(0.85, 1.2, n))

    def nuclei(self, haematoxylin: Image.Image, covered: np.ndarray) -> None:
        """Draw nuclei outside glands, denser where cellularity is high."""
        draw = ImageDraw.Draw(haematoxylin)
        crowding = np.exp(_CELLULARITY_EFFECT * self.tissue.cellularity)
        for index, domain in enumerate(DOMAINS):
            look = _MORPHOLOGY[domain]
            per_cell = look.nuclei_per_mm2 * (CELL_UM / 1000) ** 2 * crowding
            row, column, x, y = self._scatter(per_cell * (self.tissue.domain == index) * ~covered)
            n = len(row)
            variety = 0.2 if domain == "tumour" else 0.08  # tumour nuclei are pleomorphic
            long_um = look.long_um * self.rng.lognormal(0, variety, n)
            short_um = look.short_um * self.rng.lognormal(0, variety, n)
            along_fibres = self.tissue.fibre_angle[row, column] + self.rng.normal(0, 0.2, n)
            angle = along_fibres if domain == "stroma" else self.rng.uniform(0, np.pi, n)
            self._ellipses(draw, x, y, long_um, short_um, angle, look.nucleus * self.rng.lognormal(0, 0.12, n))

    def _ellipses(
        self, draw: ImageDraw.ImageDraw, x: np.ndarray, y: np.ndarray, long_um: np.ndarray, short_um: np.ndarray,
        angle: np.ndarray, stain: np.ndarray,
    ) -> None:  # fmt: skip
        """Draw rotated ellipses with centres in pixels and half axes in micrometres."""
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        along, across = long_um[:, None] * self.px * np.cos(turn), short_um[:, None] * self.px * np.sin(turn)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        outline = np.stack([x[:, None] + along * cos - across * sin, y[:, None] + along * sin + across * cos], axis=-1)
        fills = np.clip(stain * _OD, 0, 255).astype(int).tolist()
        for points, fill in zip(outline.reshape(len(x), -1).tolist(), fills, strict=True):
            draw.polygon(points, fill=fill)


def write_pyramid(path: Path, image: Image.Image, um_per_px: float) -> None:
    """Write an image as a tiled JPEG TIFF with halved levels."""
    levels = [image]
    while len(levels) < 3 or max(levels[-1].size) > 2 * TILE_PX:
        levels.append(levels[-1].reduce(2))
    with atomic(path) as temporary, tifffile.TiffWriter(temporary) as tiff:
        for index, level in enumerate(levels):
            pixels_per_cm = 1e4 / um_per_px * level.width / image.width
            tiff.write(
                np.asarray(level),
                photometric="rgb",
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                compressionargs={"level": 90},
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(index > 0),
                metadata=None,
            )
