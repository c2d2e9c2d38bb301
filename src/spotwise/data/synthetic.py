"""Cohorts generated from a known link between tissue morphology and expression, in HEST's layout.

A slide is painted from spatial domains (tumour, gland, stroma, immune) and a smooth field of cellularity; counts are
drawn from the same domains and field, for half of the genes. So a model that reads the image can predict those genes,
and no model can predict the others. With ``linked=False`` the spots' counts are shuffled over the same slide: any score
but 0 is a leak.

Gene names: the genes that stand for real biology in figures and marker lists carry real symbols (`MARKERS`); all
others, linked or not, are called ``DEMO0001`` and so on, so that no reader takes an invented gene for a finding and no
name says whether a gene is linked.
"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import tifffile
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_matrix

from spotwise.constants import SPATIAL
from spotwise.errors import InputError
from spotwise.runtime.files import atomic, write_json
from spotwise.runtime.hdf5 import write_anndata

DOMAINS = ("tumour", "gland", "stroma", "immune")
MARKERS = {
    "tumour": ("EPCAM", "KRT19", "ERBB2", "GATA3", "MUC1", "CDH1", "MKI67", "TOP2A"),
    "gland": ("KRT5", "KRT14", "KRT17", "ACTA2", "OXTR", "SCGB2A2", "PIP", "AZGP1"),
    "stroma": ("COL1A1", "COL1A2", "COL3A1", "FN1", "LUM", "DCN", "POSTN", "VIM"),
    "immune": ("PTPRC", "CD3E", "CD3D", "CD4", "CD8A", "MS4A1", "CD79A", "CXCL13"),
}
PROLIFERATION = ("MKI67", "TOP2A")  # follow cellularity, too

CONTROL_FEATURES = (
    "BLANK_0001", "BLANK_0002", "BLANK_0003", "NegControlProbe_00001", "NegControlProbe_00002",
    "NegControlCodeword_0500", "antisense_DEMO0001", "UnassignedCodeword_0001", "DeprecatedCodeword_0001",
    "Intergenic_Region_0001",
)  # fmt: skip

CELL_UM = 8.0  # edge of a cell of the coarse grid on which tissue is laid out, about one nucleus
DOMAIN_SCALE_UM = 110.0  # smoothing of the fields that make domains: patches a few spots wide
MARGIN_UM = 75.0  # from the outermost spot centres to the slide's edge
TILE_PX = 256  # as in HEST's slides
THUMBNAIL_PX = 1000  # longest edge of HEST's downscaled_fullres


@dataclass(frozen=True)
class SampleSpec:
    """A slide to generate and the patient it comes from."""

    sample: str
    patient: str


@dataclass(frozen=True)
class CohortSize:
    """How large a generated cohort is; the defaults give about 200 spots on a slide of about 3,700 px.

    Attributes
    ----------
    grid
        Spots per row and column of the square array, of which the off-tissue corners go.
    pitch_um, spot_um
        Distance between spot centres and diameter of a spot, in micrometres.
    n_genes
        Genes without the control features; half of them are linked to the tissue, all `MARKERS` among these.
    depth
        Median count of a spot in the average slide.
    """

    grid: int = 15
    pitch_um: float = 125.0
    spot_um: float = 100.0
    n_genes: int = 300
    depth: float = 3000.0

    def __post_init__(self) -> None:
        n_markers = sum(map(len, MARKERS.values()))
        if self.grid < 4:
            raise InputError("generated cohort", "grid", self.grid, "at least 4 spots per row")
        if self.n_genes < 2 * n_markers + 2:
            raise InputError("generated cohort", "n_genes", self.n_genes, f"at least {2 * n_markers + 2}")


@dataclass(frozen=True)
class Stain:
    """How a patient's slides are stained and scanned.

    Attributes
    ----------
    haematoxylin, eosin
        (3,) optical density of unit stain in red, green and blue.
    white
        (3,) colour of empty glass, 0-255.
    um_per_px
        Pixel size of level 0.
    """

    haematoxylin: np.ndarray
    eosin: np.ndarray
    white: np.ndarray
    um_per_px: float


@dataclass(frozen=True)
class Tissue:
    """A slide's tissue on a grid of `CELL_UM` micrometres.

    Attributes
    ----------
    mask
        (rows, columns) bool, True where there is tissue.
    domain
        (rows, columns) int, index into `DOMAINS`.
    cellularity
        (rows, columns) float, smooth, mean 0 and standard deviation 1: nuclei are denser where it is high.
    fibre_angle
        (rows, columns) float, direction of the stroma's fibres in radians.
    """

    mask: np.ndarray
    domain: np.ndarray
    cellularity: np.ndarray
    fibre_angle: np.ndarray


def generate_cohort(
    root: Path, samples: Sequence[SampleSpec], seed: int, linked: bool = True, size: CohortSize | None = None
) -> None:
    """Write a cohort in HEST's layout under `root`: ``st/``, ``wsis/`` and ``metadata/``.

    The first slide has a gene symbol twice and the last one lacks a gene, if there is more than one slide.

    Parameters
    ----------
    root
        Folder of the cohort.
    samples
        Slides and their patients.
    seed
        The same seed gives the same slides and counts.
    linked
        False shuffles the spots' counts over each slide, so that nothing links image and expression.
    size
        See `CohortSize`.
    """
    for spec in samples:
        generate_sample(
            root,
            spec.sample,
            spec.patient,
            seed,
            linked=linked,
            size=size,
            duplicate_symbol=spec == samples[0],
            missing_gene=len(samples) > 1 and spec == samples[-1],
        )


def generate_sample(
    root: Path,
    sample: str,
    patient: str,
    cohort_seed: int,
    linked: bool = True,
    size: CohortSize | None = None,
    duplicate_symbol: bool = False,
    missing_gene: bool = False,
) -> dict[str, Path]:
    """Write one sample of a cohort: slide, counts and metadata.

    What the cohort shares derives from `cohort_seed` alone, what the patient shares from `cohort_seed` and `patient`;
    so samples may be generated in any order, one by one.

    Parameters
    ----------
    root
        Folder of the cohort.
    sample, patient
        Names; the sample's is that of its files.
    cohort_seed
        Seed of the whole cohort.
    linked
        False shuffles the spots' counts over the slide; the slide itself stays the same.
    size
        See `CohortSize`.
    duplicate_symbol
        List one gene's symbol twice.
    missing_gene
        Leave one gene out of this sample's panel.

    Returns
    -------
    dict
        Paths of ``slide``, ``counts`` and ``metadata``.
    """
    root, size = Path(root), size or CohortSize()
    stain = patient_stain(cohort_seed, patient)
    tissue = lay_out_tissue(_rng(cohort_seed, "tissue", sample), size)
    slide = paint_slide(_rng(cohort_seed, "paint", sample), tissue, stain, size)
    spots = place_spots(_rng(cohort_seed, "spots", sample), tissue, size)
    counts = draw_counts(_rng(cohort_seed, "counts", sample), spots, cohort_seed, patient, size)
    if not linked:
        counts = counts[_rng(cohort_seed, "shuffle", sample).permutation(len(counts))]
    genes = gene_programmes(cohort_seed, size.n_genes)
    names, columns = _panel(cohort_seed, genes.index, duplicate_symbol, missing_gene)
    paths = {
        "slide": root / "wsis" / f"{sample}.tif",
        "counts": root / "st" / f"{sample}.h5ad",
        "metadata": root / "metadata" / f"{sample}.json",
    }
    write_pyramid(paths["slide"], slide, stain.um_per_px)
    is_linked = np.append(genes["linked"].to_numpy() & linked, np.zeros(len(CONTROL_FEATURES), dtype=bool))
    var = pd.DataFrame({"linked": is_linked[columns]}, index=names)
    _write_counts(paths["counts"], counts[:, columns], var, spots, slide, stain.um_per_px, size)
    write_json(
        paths["metadata"], _metadata(sample, patient, linked, slide, stain.um_per_px, len(spots), len(var), size)
    )
    return paths


def _rng(cohort_seed: int, *purpose: str) -> np.random.Generator:
    """Independent stream per purpose, so that a change to one part of a sample leaves the others as they were."""
    return np.random.default_rng([cohort_seed, *(zlib.crc32(word.encode()) for word in purpose)])


# what a cohort and a patient share


def gene_programmes(cohort_seed: int, n_genes: int) -> pd.DataFrame:
    """How every gene of a cohort answers to the tissue.

    Returns
    -------
    pandas.DataFrame
        One row per gene, sorted: ``linked`` (bool), ``base`` (log rate), one column per domain and ``cellularity``
        (change of the log rate in that domain, and per unit of cellularity; 0 for a gene without link).
    """
    rng = _rng(cohort_seed, "genes")
    home_of = {marker: domain for domain, markers in MARKERS.items() for marker in markers}
    n_linked = n_genes // 2
    homes = [*home_of.values(), *rng.choice(DOMAINS, n_linked - len(home_of))]
    # drawn before they are named, so that a DEMO number says nothing about the link
    demo_names = [f"DEMO{number:04d}" for number in rng.permutation(np.arange(1, n_genes - len(home_of) + 1))]
    names = [*home_of, *demo_names]

    effects = np.zeros((n_genes, len(DOMAINS) + 1))
    effects[:n_linked, :-1] = rng.normal(0, 0.2, (n_linked, len(DOMAINS)))
    effects[np.arange(n_linked), [DOMAINS.index(home) for home in homes]] += rng.uniform(0.8, 1.8, n_linked)
    effects[:n_linked, -1] = rng.normal(0, 0.25, n_linked) * (rng.random(n_linked) < 0.5)
    programmes = pd.DataFrame(effects, index=names, columns=[*DOMAINS, "cellularity"])
    programmes.loc[list(PROLIFERATION), "cellularity"] = 0.5
    programmes.insert(0, "linked", np.arange(n_genes) < n_linked)
    programmes.insert(1, "base", rng.normal(0, 0.7, n_genes))
    return programmes.sort_index()


def patient_stain(cohort_seed: int, patient: str) -> Stain:
    """Stain and scanner of a patient: the densities of haematoxylin and eosin (Ruifrok & Johnston 2001), varied."""
    rng = _rng(cohort_seed, "stain", patient)
    haematoxylin = np.array([0.65, 0.70, 0.29]) * rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.15)
    eosin = np.array([0.07, 0.99, 0.11]) * rng.normal(1, 0.05, 3) * rng.uniform(0.85, 1.15)
    return Stain(haematoxylin, eosin, rng.uniform(236, 248, 3), float(rng.uniform(0.48, 0.55)))


def batch_effect(cohort_seed: int, patient: str, n_genes: int) -> np.ndarray:
    """(n_genes,) factor by which a patient's preparation favours each gene."""
    return np.exp(_rng(cohort_seed, "batch", patient).normal(0, 0.3, n_genes))


# tissue


def _smooth_field(rng: np.random.Generator, edge: int, scale_um: float) -> np.ndarray:
    """(edge, edge) smooth random field of mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.normal(size=(edge, edge)), scale_um / CELL_UM, mode="wrap")
    return (field - field.mean()) / field.std()


def _extent_um(size: CohortSize) -> float:
    return (size.grid - 1) * size.pitch_um + 2 * MARGIN_UM


def lay_out_tissue(rng: np.random.Generator, size: CohortSize) -> Tissue:
    """Draw a slide's tissue outline, domains, cellularity and fibre directions."""
    edge = math.ceil(_extent_um(size) / CELL_UM)
    fields = np.stack([_smooth_field(rng, edge, DOMAIN_SCALE_UM) for _ in DOMAINS])
    # in units of half the array: the outline runs outside the array's edges and inside its corners
    position = np.abs(np.linspace(-1, 1, edge)) * _extent_um(size) / (_extent_um(size) - 2 * MARGIN_UM)
    radius = (position[:, None] ** 3 + position[None, :] ** 3) ** (1 / 3)
    return Tissue(
        mask=radius < 1.08 + 0.06 * _smooth_field(rng, edge, 120.0),
        domain=fields.argmax(axis=0),
        cellularity=_smooth_field(rng, edge, 130.0),
        fibre_angle=np.pi * _smooth_field(rng, edge, 150.0) / 2,
    )


def place_spots(rng: np.random.Generator, tissue: Tissue, size: CohortSize) -> pd.DataFrame:
    """Spots of the array that lie on tissue, and a few of those that do not.

    Returns
    -------
    pandas.DataFrame
        Index ``RRRxCCC``; ``array_row``, ``array_col``, ``x_um``, ``y_um``, ``in_tissue``; per domain its fraction of
        the spot; ``cellularity``; ``domain``, the commonest.
    """
    row, column = (index.ravel() for index in np.indices((size.grid, size.grid)))
    x_um, y_um = (MARGIN_UM + size.pitch_um * index + rng.normal(0, 1.5, len(index)) for index in (column, row))
    reach = np.arange(-size.spot_um / 2, size.spot_um / 2 + 1, CELL_UM / 2)
    dx, dy = (offset.ravel() for offset in np.meshgrid(reach, reach))
    in_disc = dx**2 + dy**2 <= (size.spot_um / 2) ** 2
    cell_x = ((x_um[:, None] + dx[in_disc]) / CELL_UM).astype(int)  # (spots, points of the disc)
    cell_y = ((y_um[:, None] + dy[in_disc]) / CELL_UM).astype(int)
    on_tissue = tissue.mask[cell_y, cell_x]
    fractions = np.stack([tissue.domain[cell_y, cell_x] == domain for domain in range(len(DOMAINS))], axis=-1).mean(
        axis=1
    )

    spots = pd.DataFrame(
        fractions, columns=list(DOMAINS), index=[f"{r:03d}x{c:03d}" for r, c in zip(row, column, strict=True)]
    )
    spots["cellularity"] = tissue.cellularity[cell_y, cell_x].mean(axis=1)
    spots["domain"] = np.array(DOMAINS)[fractions.argmax(axis=1)]
    spots["array_row"], spots["array_col"] = row.astype(np.int32), column.astype(np.int32)
    spots["x_um"], spots["y_um"] = x_um, y_um
    spots["in_tissue"] = on_tissue.mean(axis=1) > 0.5
    off_tissue = np.flatnonzero(~spots["in_tissue"])
    kept = rng.choice(off_tissue, min(_n_dirty(size), len(off_tissue)), replace=False)
    return spots[spots["in_tissue"] | np.isin(np.arange(len(spots)), kept)]


def _n_dirty(size: CohortSize) -> int:
    """Spots off the tissue, and likewise spots that failed, in a sample."""
    return max(1, size.grid**2 // 60)


# counts


def draw_counts(
    rng: np.random.Generator, spots: pd.DataFrame, cohort_seed: int, patient: str, size: CohortSize
) -> np.ndarray:
    """Draw a slide's counts: negative binomial around a log-linear answer of every gene to its spot's tissue.

    A spot's depth is drawn apart from its tissue, so that the library size alone predicts nothing. Spots off the tissue
    hold a little ambient RNA, and some on it failed: 1 or 2 counts.

    Returns
    -------
    np.ndarray
        (spots, n_genes + control features) float32 counts; genes in the order of `gene_programmes`.
    """
    genes = gene_programmes(cohort_seed, size.n_genes)
    drivers = [*DOMAINS, "cellularity"]
    log_rate = genes["base"].to_numpy() + spots[drivers].to_numpy() @ genes[drivers].to_numpy().T
    rate = np.exp(log_rate) * batch_effect(cohort_seed, patient, size.n_genes)
    rate /= rate.sum(axis=1, keepdims=True)
    depth = size.depth * rng.lognormal(0, 0.3) * rng.lognormal(0, 0.2, len(spots))
    depth[~spots["in_tissue"].to_numpy()] *= 0.02
    mean = rate * depth[:, None]
    dispersion = 6.0  # variance = mean + mean**2 / dispersion
    counts = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, mean.shape))
    counts[rng.random(counts.shape) < 0.03] = 0  # dropouts
    failed = rng.choice(np.flatnonzero(spots["in_tissue"]), _n_dirty(size), replace=False)
    counts[failed] = 0
    counts[failed, rng.integers(0, size.n_genes, len(failed))] = rng.integers(1, 3, len(failed))
    controls = rng.poisson(0.1, (len(spots), len(CONTROL_FEATURES)))
    controls[failed] = 0
    return np.hstack([counts, controls]).astype(np.float32)


def _panel(
    cohort_seed: int, genes: pd.Index, duplicate_symbol: bool, missing_gene: bool
) -> tuple[list[str], list[int]]:
    """Names of a sample's features and the columns of `draw_counts` that hold them."""
    names = [*genes, *CONTROL_FEATURES]
    invented = [column for column, name in enumerate(genes) if name.startswith("DEMO")]
    missing, twice, second = _rng(cohort_seed, "defects").choice(invented, 3, replace=False)
    if duplicate_symbol:
        names[second] = names[twice]
    columns = [column for column in range(len(names)) if not (missing_gene and column == missing)]
    return [names[column] for column in columns], columns


def _write_counts(
    path: Path, counts: np.ndarray, var: pd.DataFrame, spots: pd.DataFrame, slide: Image.Image, um_per_px: float,
    size: CohortSize,
) -> None:  # fmt: skip
    centres = spots[["x_um", "y_um"]].to_numpy() / um_per_px
    obs = spots[["in_tissue", "array_row", "array_col"]].copy()
    obs["pxl_col_in_fullres"], obs["pxl_row_in_fullres"] = centres.T
    obs["domain"] = pd.Categorical(spots["domain"], categories=list(DOMAINS))
    scale = THUMBNAIL_PX / max(slide.size)
    downscaled = slide.resize([round(edge * scale) for edge in slide.size], reducing_gap=2.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        adata = anndata.AnnData(csr_matrix(counts), obs=obs, var=var, obsm={SPATIAL: centres})
        adata.uns["spatial"] = {
            "ST": {
                "images": {"downscaled_fullres": np.asarray(downscaled)},
                "scalefactors": {
                    "spot_diameter_fullres": size.spot_um / um_per_px,
                    "tissue_downscaled_fullres_scalef": scale,
                },
            }
        }
        write_anndata(path, adata)


def _metadata(
    sample: str, patient: str, linked: bool, slide: Image.Image, um_per_px: float, n_spots: int, n_features: int,
    size: CohortSize,
) -> dict[str, object]:  # fmt: skip
    width, height = slide.size
    return {
        "dataset_title": f"spotwise generated cohort, expression {'linked' if linked else 'not linked'} to the image",
        "id": sample,
        "image_filename": f"{sample}.tif",
        "organ": "Breast",
        "disease_state": "Cancer",
        "species": "Homo sapiens",
        "patient": patient,
        "st_technology": "Spatial Transcriptomics",
        "inter_spot_dist": size.pitch_um,
        "spot_diameter": size.spot_um,
        "spots_under_tissue": n_spots,
        "nb_genes": n_features,
        "pixel_size_um_embedded": um_per_px,
        "pixel_size_um_estimated": um_per_px,
        "magnification": "20x",
        "fullres_px_width": width,
        "fullres_px_height": height,
        "adata_nb_col": n_features,
    }


# the slide


@dataclass(frozen=True)
class _Morphology:
    """What a domain looks like: background stain, nuclei per mm2, half axes of a nucleus in um and its stain."""

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


def paint_slide(rng: np.random.Generator, tissue: Tissue, stain: Stain, size: CohortSize) -> Image.Image:
    """Paint a slide at level 0: two layers of stain, then their colours by Beer and Lambert's law.

    Returns
    -------
    PIL.Image.Image
        RGB, square.
    """
    edge_px = round(_extent_um(size) / stain.um_per_px)
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
    """Fine unevenness of the stain, tiled."""
    tile = gaussian_filter(rng.normal(size=(512, 512)), 2.0, mode="wrap")
    tile = np.clip(215 + 25 * tile / tile.std(), 0, 255).astype(np.uint8)
    repeats = math.ceil(edge_px / 512)
    return Image.fromarray(np.tile(tile, (repeats, repeats))[:edge_px, :edge_px])


class _Brush:
    """Paints structures of a tissue, laid out in micrometres, on stain layers in pixels."""

    def __init__(self, rng: np.random.Generator, tissue: Tissue, um_per_px: float):
        self.rng = rng
        self.tissue = tissue
        self.cell_px = CELL_UM / um_per_px
        self.px = 1 / um_per_px

    def background(self, stain: str, edge_px: int) -> Image.Image:
        """Start a layer with each domain's mean stain, faded at the tissue's outline."""
        level = np.array([getattr(_MORPHOLOGY[domain], stain) for domain in DOMAINS])[self.tissue.domain]
        coarse = gaussian_filter(np.where(self.tissue.mask, level, 0.0), 0.7) * _OD
        covered = min(edge_px / self.cell_px, len(coarse))  # the last cell may reach beyond the slide
        return Image.fromarray(coarse.round().astype(np.uint8)).resize(
            (edge_px, edge_px), Image.Resampling.BILINEAR, (0, 0, covered, covered)
        )

    def _scatter(self, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows and columns of cells chosen with `probability`, and a random place (x, y) in pixels in each."""
        row, column = np.nonzero(self.rng.random(probability.shape) < probability * self.tissue.mask)
        shift = self.rng.random((2, len(row)))
        return row, column, (column + shift[0]) * self.cell_px, (row + shift[1]) * self.cell_px

    def fibres(self, eosin: Image.Image) -> None:
        """Draw the stroma's collagen fibres, slightly bent."""
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
        """Draw glands, epithelium around an empty lumen, on a loose lattice; return a mask of the cells they take."""
        taken = np.zeros_like(self.tissue.mask)
        home = self.tissue.mask & (self.tissue.domain == DOMAINS.index("gland"))
        draw_eosin, draw_haematoxylin = ImageDraw.Draw(eosin), ImageDraw.Draw(haematoxylin)
        for x, y in self._gland_centres():
            row, column = np.clip(np.array([y, x]) / CELL_UM, 0, len(taken) - 1).astype(int)
            if not home[row, column]:
                continue
            lumen = self.rng.uniform(*_LUMEN_UM, 2)
            outer = lumen + _EPITHELIUM_UM
            for layer, epithelium in (
                (draw_eosin, _EPITHELIUM_EOSIN),
                (draw_haematoxylin, _EPITHELIUM_HAEMATOXYLIN),
            ):
                layer.ellipse(self._box(x, y, outer), fill=round(epithelium * _OD))
                layer.ellipse(self._box(x, y, lumen), fill=round(_LUMEN_STAIN * _OD))
            self._ring_of_nuclei(draw_haematoxylin, x, y, lumen + 0.6 * _EPITHELIUM_UM)
            reach = math.ceil(max(outer) / CELL_UM)
            taken[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
        return taken

    def _gland_centres(self) -> np.ndarray:
        """(n, 2) places (x, y) in micrometres on a shaken square lattice over the whole slide."""
        n = math.ceil(len(self.tissue.mask) * CELL_UM / _GLAND_SPACING_UM)
        lattice = (np.indices((n, n)).reshape(2, -1).T + 0.5) * _GLAND_SPACING_UM
        return lattice + self.rng.normal(0, 10.0, lattice.shape)

    def _box(self, x: float, y: float, half: np.ndarray) -> list[float]:
        return [(x - half[0]) * self.px, (y - half[1]) * self.px, (x + half[0]) * self.px, (y + half[1]) * self.px]

    def _ring_of_nuclei(self, draw: ImageDraw.ImageDraw, x: float, y: float, radius: np.ndarray) -> None:
        n = int(2 * np.pi * radius.mean() / _EPITHELIAL_SPACING_UM)
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        angle += self.rng.normal(0, 0.05, n)
        centre_x, centre_y = x + radius[0] * np.cos(angle), y + radius[1] * np.sin(angle)
        half = (np.full(n, half_um) for half_um in _EPITHELIAL_NUCLEUS_UM)
        self._ellipses(draw, centre_x * self.px, centre_y * self.px, *half, angle, self.rng.uniform(0.85, 1.2, n))

    def nuclei(self, haematoxylin: Image.Image, taken: np.ndarray) -> None:
        """Draw every domain's nuclei, denser where cellularity is high; none where glands are."""
        draw = ImageDraw.Draw(haematoxylin)
        crowding = np.exp(_CELLULARITY_EFFECT * self.tissue.cellularity)
        for index, domain in enumerate(DOMAINS):
            look = _MORPHOLOGY[domain]
            per_cell = look.nuclei_per_mm2 * (CELL_UM / 1000) ** 2 * crowding
            row, column, x, y = self._scatter(per_cell * (self.tissue.domain == index) * ~taken)
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
        """Draw filled ellipses, turned by `angle`, as polygons: centres in pixels, half axes in micrometres."""
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        along, across = long_um[:, None] * self.px * np.cos(turn), short_um[:, None] * self.px * np.sin(turn)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        outline = np.stack([x[:, None] + along * cos - across * sin, y[:, None] + along * sin + across * cos], axis=-1)
        fills = np.clip(stain * _OD, 0, 255).astype(int).tolist()
        for points, fill in zip(outline.reshape(len(x), -1).tolist(), fills, strict=True):
            draw.polygon(points, fill=fill)


def write_pyramid(path: Path, image: Image.Image, um_per_px: float) -> None:
    """Write `image` as a tiled JPEG TIFF with halved levels as further pages, which OpenSlide reads with its scale."""
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
