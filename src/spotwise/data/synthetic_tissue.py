"""Synthetic tissue: domains and cellularity of a slide, and the spots that lie on it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from spotwise.errors import InputError

# The domains of the tissue, and marker genes that each of them expresses
MARKERS = {
    "tumour": ("EPCAM", "KRT19", "ERBB2", "GATA3", "MUC1", "CDH1", "MKI67", "TOP2A"),
    "gland": ("KRT5", "KRT14", "KRT17", "ACTA2", "OXTR", "SCGB2A2", "PIP", "AZGP1"),
    "stroma": ("COL1A1", "COL1A2", "COL3A1", "FN1", "LUM", "DCN", "POSTN", "VIM"),
    "immune": ("PTPRC", "CD3E", "CD3D", "CD4", "CD8A", "MS4A1", "CD79A", "CXCL13"),
}
DOMAINS = tuple(MARKERS)
N_MARKERS = sum(map(len, MARKERS.values()))

CELL_UM = 8.0  # edge of a cell of the coarse grid on which tissue is laid out, about one nucleus
DOMAIN_SCALE_UM = 110.0  # smoothing of the fields that make domains: patches a few spots wide
MARGIN_UM = 75.0  # from the outermost spot centres to the slide's edge
MIN_GRID = 4


@dataclass(frozen=True)
class CohortSize:
    """Size of a cohort, by default about 200 spots on 3,700 px."""

    grid: int = 15  # spots per row and column of the square array; most of those off the tissue are left out
    pitch_um: float = 125.0  # between spot centres
    spot_um: float = 100.0  # diameter
    n_genes: int = 300  # without control features; half are linked to the tissue, among them all `MARKERS`
    depth: float = 3000.0  # median count of a spot in the average slide

    def __post_init__(self) -> None:
        if self.grid < MIN_GRID:
            raise InputError("generated cohort", "grid", self.grid, f"at least {MIN_GRID} spots per row")
        if self.n_genes < 2 * N_MARKERS + 2:
            raise InputError("generated cohort", "n_genes", self.n_genes, f"at least {2 * N_MARKERS + 2}")


@dataclass(frozen=True)
class Tissue:
    """Tissue on a grid of `CELL_UM` micrometres, each array (rows, columns)."""

    mask: np.ndarray  # bool, True on tissue
    domain: np.ndarray  # int, index into `DOMAINS`
    cellularity: np.ndarray  # smooth, mean 0 and standard deviation 1; nuclei are dense where it is high
    fibre_angle: np.ndarray  # of the stroma, in radians


def random_stream(cohort_seed: int, *purpose: str) -> np.random.Generator:
    """Create a stream per purpose, so that parts of a sample change independently."""
    return np.random.default_rng([cohort_seed, *(zlib.crc32(word.encode()) for word in purpose)])


def _smooth_field(rng: np.random.Generator, edge: int, scale_um: float) -> np.ndarray:
    """Draw a smooth field (edge, edge) of mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.normal(size=(edge, edge)), scale_um / CELL_UM, mode="wrap")
    return (field - field.mean()) / field.std()


def extent_um(size: CohortSize) -> float:
    """Compute the edge of the slide in micrometres."""
    return (size.grid - 1) * size.pitch_um + 2 * MARGIN_UM


def lay_out_tissue(rng: np.random.Generator, size: CohortSize) -> Tissue:
    """Draw a slide's tissue outline, domains, cellularity and fibre directions."""
    edge = math.ceil(extent_um(size) / CELL_UM)
    fields = np.stack([_smooth_field(rng, edge, DOMAIN_SCALE_UM) for _ in DOMAINS])
    # in units of half the array: the outline runs outside the array's edges and inside its corners
    position = np.abs(np.linspace(-1, 1, edge)) * extent_um(size) / (extent_um(size) - 2 * MARGIN_UM)
    radius = (position[:, None] ** 3 + position[None, :] ** 3) ** (1 / 3)
    return Tissue(
        mask=radius < 1.08 + 0.06 * _smooth_field(rng, edge, 120.0),
        domain=fields.argmax(axis=0),
        cellularity=_smooth_field(rng, edge, 130.0),
        fibre_angle=np.pi * _smooth_field(rng, edge, 150.0) / 2,
    )


def place_spots(rng: np.random.Generator, tissue: Tissue, size: CohortSize) -> pd.DataFrame:
    """Place the spots on tissue, and a few that are not.

    The index is ``RRRxCCC``. Columns are ``array_row``, ``array_col``, ``x_um``, ``y_um``, ``in_tissue``, the fraction
    of the spot in each domain, ``cellularity``, and ``domain``, the most frequent.
    """
    row, column = (index.ravel() for index in np.indices((size.grid, size.grid)))
    x_um, y_um = (MARGIN_UM + size.pitch_um * index + rng.normal(0, 1.5, len(index)) for index in (column, row))
    reach = np.arange(-size.spot_um / 2, size.spot_um / 2 + 1, CELL_UM / 2)
    dx, dy = (offset.ravel() for offset in np.meshgrid(reach, reach))
    in_disc = dx**2 + dy**2 <= (size.spot_um / 2) ** 2
    cell_x = ((x_um[:, None] + dx[in_disc]) / CELL_UM).astype(int)  # (spots, points of the disc)
    cell_y = ((y_um[:, None] + dy[in_disc]) / CELL_UM).astype(int)
    on_tissue = tissue.mask[cell_y, cell_x]
    in_domain = tissue.domain[cell_y, cell_x]
    fractions = np.stack([(in_domain == domain).mean(axis=1) for domain in range(len(DOMAINS))], axis=-1)

    names = [f"{r:03d}x{c:03d}" for r, c in zip(row, column, strict=True)]
    spots = pd.DataFrame(fractions, columns=list(DOMAINS), index=names)
    spots["cellularity"] = tissue.cellularity[cell_y, cell_x].mean(axis=1)
    spots["domain"] = np.array(DOMAINS)[fractions.argmax(axis=1)]
    spots["array_row"], spots["array_col"] = row.astype(np.int32), column.astype(np.int32)
    spots["x_um"], spots["y_um"] = x_um, y_um
    spots["in_tissue"] = on_tissue.mean(axis=1) > 0.5
    off_tissue = np.flatnonzero(~spots["in_tissue"])
    kept = rng.choice(off_tissue, min(n_defective(size), len(off_tissue)), replace=False)
    return spots[spots["in_tissue"] | np.isin(np.arange(len(spots)), kept)]


def n_defective(size: CohortSize) -> int:
    """Return the number of spots off the tissue, and of failed spots."""
    return max(1, size.grid**2 // 60)
