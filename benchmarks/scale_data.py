"""Synthetic cohorts of the paper's size in HEST's layout.

Every number of a real run is there: spots, genes, counted genes per spot, patches and pixels. The content is cheap:
tissue is a smooth field, patches are crops from a pool of textures that follow the field, and so do the counts of half
of the genes, as negative binomials.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pyvips
from scipy import ndimage, sparse

from spotwise.constants import BARCODES, COORDS, IMAGES, PATCH_PX, SPATIAL
from spotwise.data import hest
from spotwise.runtime.files import atomic, write_json, write_text
from spotwise.runtime.hdf5 import write_anndata

UM_PER_PX = 0.5
MARGIN_PX = 400  # from the outermost spots to the edge of a slide
MARKERS = ("EPCAM", "KRT19", "COL1A1", "CD3E", "MKI67", "ERBB2", "GATA3", "CD8A")
N_CONTROLS = 40  # control features of a Xenium panel
VISIUM, XENIUM, SLIDE = "Visium", "Xenium", "unsequenced"
LEVELS = 16  # of texture, from sparse to crowded nuclei
CANVAS_PX, TILE_PX = 800, 512
DISPERSION = 4.0  # variance = mean + mean**2 / dispersion
THUMBNAIL_PX = 1000
DOMAINS = 6
BENCH_TASK = "IDC"
HD_BIN_UM, HD_POOLED = 8.0, 16  # bins of Visium HD, and how many of them along a side HEST pools: 128 um


@dataclass(frozen=True)
class Size:
    """Size of the cohorts.

    Attributes
    ----------
    visium_slides, visium_spots, visium_genes
        Slides, each with that many spots and genes.
    xenium_spots, xenium_genes
        Spots of each slide, the first of one patient and the others of another, and genes of the panel.
    hd_bins, hd_genes
        Bins of 8 um of the slide of Visium HD, which joins the Xenium cohort, and its genes.
    slide_px
        Side of the picture of that slide, which is also the slide without counts.
    """

    visium_slides: int = 4
    visium_spots: int = 5_000
    visium_genes: int = 33_900
    xenium_spots: tuple[int, ...] = (25_000, 3_900)
    xenium_genes: int = 541
    hd_bins: int = 300_000
    hd_genes: int = 18_085
    slide_px: int = 20_000


FULL = Size()
SMALL = Size(4, 120, 900, (150, 90), 160, 60 * HD_POOLED**2, 700, 3_000)


@dataclass(frozen=True)
class Slide:
    """One sample: its place in the cohort, and how many spots and genes it has."""

    sample: str
    cohort: str
    patient: str
    technology: str
    spots: int
    genes: int
    pitch_um: float
    picture_px: int = 0  # side of its slide; 0 for one that comes with patches

    @property
    def is_staggered(self) -> bool:
        """Whether every other row is shifted by half a pitch."""
        return self.technology == "Visium"


def slides(size: Size) -> list[Slide]:
    """List the samples of both cohorts."""
    visium = [
        Slide(f"V{number}", VISIUM, f"Patient V{number}", "Visium", size.visium_spots, size.visium_genes, 100.0)
        for number in range(1, size.visium_slides + 1)
    ]
    xenium = [
        Slide(
            f"X{number}",
            XENIUM,
            "Patient X1" if number == 1 else "Patient X2",
            "Xenium",
            spots,
            size.xenium_genes,
            100.0,
        )
        for number, spots in enumerate(size.xenium_spots, start=1)
    ]
    pooled = size.hd_bins // HD_POOLED**2
    pitch = HD_BIN_UM * HD_POOLED
    return [
        *visium,
        *xenium,
        Slide("HD1", XENIUM, "Patient X2", "Visium HD", pooled, size.hd_genes, pitch, size.slide_px),
    ]


def generate(root: Path, size: Size, seed: int = 0, workers: int = 1, only: Sequence[str] = ()) -> list[str]:
    """Write both cohorts, what another tool predicted, a task of the HEST benchmark, and a slide without counts.

    Samples that are there already, of the same size, are kept.

    Parameters
    ----------
    root
        Folder for ``data/``, ``external/`` and ``bench/``.
    workers
        Samples generated at once.
    only
        Samples to write; all by default.

    Returns
    -------
    list of str
        Samples that were written.
    """
    wanted = [slide for slide in slides(size) if not only or slide.sample in only]
    todo = [slide for slide in wanted if not _is_there(root, slide)]
    write = _Writer(root, seed)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(write, sorted(todo, key=lambda slide: -slide.spots)))
    else:
        list(map(write, todo))
    write_sheet(root / "samples.tsv", wanted)
    _write_bench_task(root, [slide for slide in wanted if slide.technology == "Xenium"][:2])
    return [slide.sample for slide in todo]


def write_sheet(path: Path, rows: Iterable[Slide]) -> None:
    """Write the sample sheet."""
    lines = ["sample\tcohort\tpatient\ttechnology"]
    lines += [f"{one.sample}\t{one.cohort}\t{one.patient}\t{one.technology}" for one in rows]
    write_text(path, "\n".join(lines) + "\n")


def _is_there(root: Path, slide: Slide) -> bool:
    """Tell whether a sample of this size was generated; its metadata are written last."""
    path = hest.sample_files(root / "data", slide.sample).metadata
    if not path.is_file():
        return False
    stated = json.loads(path.read_text(encoding="utf-8"))
    same_picture = not slide.picture_px or stated["fullres_px_width"] == slide.picture_px
    return (stated["spots_under_tissue"], stated["nb_genes"], same_picture) == (slide.spots, slide.genes, True)


# --- One sample -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Writer:
    root: Path
    seed: int

    def __call__(self, slide: Slide) -> None:
        rng = np.random.default_rng([self.seed, *slide.sample.encode()])
        patient = np.random.default_rng([self.seed, *slide.patient.encode()])
        files = hest.sample_files(self.root / "data", slide.sample)
        for path in (files.counts, files.metadata, files.patches, files.hest_slide):
            path.parent.mkdir(parents=True, exist_ok=True)
        position, barcodes, centres = lay_out(slide)
        tissue = field(rng)
        z = tissue(centres)
        width, height = (round(edge) + MARGIN_PX for edge in centres.max(axis=0))
        canvases = paint_canvases(patient)
        if slide.picture_px:
            width = height = slide.picture_px
            write_slide(files.hest_slide, canvases, slide.picture_px, tissue, centres, rng)
        else:
            write_patches(files.patches, canvases, texture_level(z), centres, barcodes, rng)
        _write_counts(files.counts, slide, position, barcodes, centres, z, (width, height), rng, patient, self.seed)
        _write_external(self.root / "external" / f"{slide.sample}.h5ad", files.counts)
        write_json(files.metadata, _metadata(slide, width, height))


def lay_out(slide: Slide) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Place the spots of a slide.

    Returns
    -------
    position
        (N, 2) int, row and column of the array.
    barcodes
        (N,) their names.
    centres
        (N, 2) float64, x and y in pixels of level 0.
    """
    rows_per_column = math.sqrt(3) / 2 if slide.is_staggered else 1.0
    across = math.ceil(math.sqrt(slide.spots * rows_per_column))
    row, column = np.divmod(np.arange(slide.spots), across)
    array_column = 2 * column + row % 2 if slide.is_staggered else column
    pitch_px = slide.pitch_um / UM_PER_PX
    x = pitch_px * (array_column / 2 if slide.is_staggered else array_column)
    y = pitch_px * rows_per_column * row
    shift = MARGIN_PX
    if slide.picture_px:  # in the middle of the slide
        shift = (slide.picture_px - across * pitch_px) / 2
    centres = np.column_stack([x, y]) + shift
    barcodes = [f"{r:03d}x{c:03d}" for r, c in zip(row, array_column, strict=True)]
    return np.column_stack([row, array_column]), barcodes, centres.round()


def field(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Draw a smooth field: centres (N, 2) in pixels to values (N,) from 0 to 1, with waves of 1 to 4 mm."""
    n = 6
    length = rng.uniform(2000, 8000, n)
    angle, phase = rng.uniform(0, 2 * np.pi, (2, n))
    waves = 2 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])

    def value(centres: np.ndarray) -> np.ndarray:
        total = np.sin(centres @ waves + phase).sum(axis=1) / math.sqrt(n / 2)
        return 1 / (1 + np.exp(-1.7 * total))

    return value


def texture_level(z: np.ndarray) -> np.ndarray:
    """Return the level of texture (N,) of values of the field."""
    return np.minimum((z * LEVELS).astype(int), LEVELS - 1)


# --- Pictures ---------------------------------------------------------------------------------------------------------


def paint_canvases(rng: np.random.Generator) -> np.ndarray:
    """Paint textures (LEVELS, CANVAS_PX, CANVAS_PX, 3) in a patient's stain, with ever more nuclei."""
    stain = np.array([225, 165, 205]) + rng.uniform(-12, 12, 3)
    nucleus = np.array([95, 60, 140]) + rng.uniform(-12, 12, 3)
    grain = ndimage.gaussian_filter(rng.normal(size=(CANVAS_PX, CANVAS_PX)).astype(np.float32), 3, mode="wrap")
    grain /= grain.std()
    blobs = ndimage.gaussian_filter(rng.normal(size=(CANVAS_PX, CANVAS_PX)).astype(np.float32), 4, mode="wrap")
    canvases = []
    for level in range(LEVELS):
        share = 0.04 + 0.5 * level / LEVELS
        rolled = np.roll(blobs, rng.integers(0, CANVAS_PX, 2), axis=(0, 1))
        is_nucleus = rolled > np.quantile(rolled, 1 - share)
        picture = np.where(is_nucleus[..., None], nucleus, stain) + 8 * grain[..., None]
        canvases.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(canvases)


def _crop(canvas: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    y, x = rng.integers(0, CANVAS_PX - side, 2)
    return canvas[y : y + side, x : x + side]


def write_patches(
    path: Path, canvases: np.ndarray, level: np.ndarray, centres: np.ndarray, barcodes: Sequence[str],
    rng: np.random.Generator, batch: int = 256,
) -> None:  # fmt: skip
    """Write a patch file as HEST's writer leaves it: one chunk for each patch, uncompressed."""
    n, shape = len(level), (PATCH_PX, PATCH_PX, 3)
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset(IMAGES, (n, *shape), "u1", chunks=(1, *shape), maxshape=(None, *shape))
        for start in range(0, n, batch):
            some = level[start : start + batch]
            images[start : start + len(some)] = np.stack([_crop(canvases[one], PATCH_PX, rng) for one in some])
        corners = (centres - PATCH_PX // 2).astype(np.int64)
        file.create_dataset(COORDS, data=corners, chunks=(1, 2), maxshape=(None, 2))
        labels = np.array(barcodes, dtype=object)[:, None]
        file.create_dataset(BARCODES, data=labels, dtype=h5py.string_dtype(), chunks=(1, 1), maxshape=(None, 1))
        scale = {"patch_size_src": PATCH_PX, "patch_size_target": PATCH_PX, "downsample": 1.0, "pixel_size": UM_PER_PX}
        for name in (IMAGES, COORDS):
            file[name].attrs.update(scale)


def write_slide(
    path: Path, canvases: np.ndarray, side: int, tissue: Callable, centres: np.ndarray, rng: np.random.Generator
) -> None:
    """Write a pyramid of tiled JPEG whose textures follow the field, on white glass around a disc of tissue."""
    across = math.ceil(side / TILE_PX)
    variants = [
        [pyvips.Image.new_from_array(np.ascontiguousarray(_crop(canvas, TILE_PX, rng))) for _ in range(4)]
        for canvas in canvases
    ]
    white = pyvips.Image.new_from_array(np.full((TILE_PX, TILE_PX, 3), 243, np.uint8))
    row, column = np.divmod(np.arange(across * across), across)
    middles = (np.column_stack([column, row]) + 0.5) * TILE_PX
    levels = texture_level(tissue(middles))
    low, high = centres.min(axis=0) - TILE_PX, centres.max(axis=0) + TILE_PX
    is_spot = ((middles >= low) & (middles <= high)).all(axis=1)
    on_tissue = is_spot | (np.linalg.norm(middles - side / 2, axis=1) < 0.42 * side)
    tiles = [
        variants[level][rng.integers(4)] if inside else white for level, inside in zip(levels, on_tissue, strict=True)
    ]
    joined = pyvips.Image.arrayjoin(tiles, across=across).crop(0, 0, side, side).copy(interpretation="srgb")
    with atomic(path) as temporary:
        pixels_per_mm = 1000 / UM_PER_PX
        joined.tiffsave(
            str(temporary), tile=True, pyramid=True, tile_width=256, tile_height=256, compression="jpeg", Q=85,
            xres=pixels_per_mm, yres=pixels_per_mm, resunit="cm", bigtiff=True,
        )  # fmt: skip


# --- Counts -----------------------------------------------------------------------------------------------------------


def gene_names(n_genes: int, controls: int = 0) -> list[str]:
    """Name genes, real symbols first, then control features."""
    genes = [*MARKERS, *(f"GENE{number:05d}" for number in range(n_genes - len(MARKERS)))]
    return genes + [f"BLANK_{number:04d}" for number in range(controls)]


def draw_counts(
    z: np.ndarray, n_genes: int, depth: float, rng: np.random.Generator, patient: np.random.Generator, seed: int,
    block: int = 500,
) -> sparse.csr_matrix:  # fmt: skip
    """Draw negative binomial counts (N, G), float32, in which half of the genes follow the field ``z`` (N,).

    The rates of the genes derive from ``seed`` alone, and each gene's from its place, so that cohorts with other
    numbers of genes share the first ones.
    """
    genes = np.random.default_rng(seed)
    base, loading, linked = genes.normal(0, 1, (3, 40_000))[:, :n_genes]
    base = np.where(np.arange(n_genes) < len(MARKERS), 2.0, base)
    loading = np.where((linked > 0) | (np.arange(n_genes) < len(MARKERS)), 1.2 * loading, 0.0)
    log_rate = 2.3 * base + patient.normal(0, 0.3, n_genes)
    depths = depth * rng.lognormal(0, 0.35, len(z))
    blocks = []
    for start in range(0, len(z), block):
        rows = slice(start, start + block)
        rate = np.exp(log_rate + np.outer(z[rows] - 0.5, loading)).astype(np.float32)
        rate *= (depths[rows] / rate.sum(axis=1))[:, None].astype(np.float32)
        rate *= rng.standard_gamma(DISPERSION, rate.shape, dtype=np.float32) / DISPERSION
        blocks.append(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    return sparse.vstack(blocks, format="csr")


DEPTHS = {"Visium": 14_000.0, "Xenium": 6_000.0, "Visium HD": 60_000.0}


def _write_counts(
    path: Path, slide: Slide, position: np.ndarray, barcodes: Sequence[str], centres: np.ndarray, z: np.ndarray,
    edges: tuple[int, int], rng: np.random.Generator, patient: np.random.Generator, seed: int,
) -> None:  # fmt: skip
    counts = draw_counts(z, slide.genes, DEPTHS[slide.technology], rng, patient, seed)
    names = gene_names(slide.genes)
    if slide.technology == "Xenium":  # dense, with control features
        names = gene_names(slide.genes, N_CONTROLS)
        controls = rng.poisson(0.1, (len(z), N_CONTROLS))
        counts = np.hstack([counts.toarray(), controls]).astype(np.uint16)
    obs = pd.DataFrame({"in_tissue": 1, "array_row": position[:, 0], "array_col": position[:, 1]}, index=barcodes)
    obs["pxl_col_in_fullres"], obs["pxl_row_in_fullres"] = centres.T
    obs["domain"] = pd.Categorical(
        [f"domain {number + 1}" for number in np.minimum(z * DOMAINS, DOMAINS - 1).astype(int)]
    )
    adata = anndata.AnnData(counts, obs, pd.DataFrame(index=names), obsm={SPATIAL: centres})
    scale = THUMBNAIL_PX / max(edges)
    scales = {"spot_diameter_fullres": 55.0 / UM_PER_PX, "tissue_downscaled_fullres_scalef": scale}
    picture = _thumbnail(centres, z, slide.pitch_um, edges)
    adata.uns[SPATIAL] = {"ST": {"images": {"downscaled_fullres": picture}, "scalefactors": scales}}
    write_anndata(path, adata)


def _thumbnail(centres: np.ndarray, z: np.ndarray, pitch_um: float, edges: tuple[int, int]) -> np.ndarray:
    """Paint the squares of the spots on white, (height, width, 3)."""
    scale = THUMBNAIL_PX / max(edges)
    width, height = (round(edge * scale) for edge in edges)
    picture = np.full((height, width, 3), 243, np.uint8)
    half = max(1, math.ceil(pitch_um / UM_PER_PX * scale / 2))
    colours = (np.array([225, 165, 205]) - np.outer(z, [110, 90, 60])).astype(np.uint8)
    for (x, y), colour in zip((centres * scale).astype(int), colours, strict=True):
        picture[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = colour
    return picture


def _metadata(slide: Slide, width: int, height: int) -> dict:
    stated = {"Visium": (100.0, 55.0), "Xenium": (100.0, None), "Visium HD": (2.0, 2.0)}[slide.technology]
    return {
        "id": slide.sample,
        "dataset_title": "spotwise, generated at the paper's size",
        "species": "Homo sapiens",
        "organ": "Breast",
        "disease_state": "Cancer",
        "patient": slide.patient,
        "st_technology": slide.technology,
        "inter_spot_dist": stated[0],
        "spot_diameter": stated[1],
        "spots_under_tissue": slide.spots,
        "nb_genes": slide.genes,
        "pixel_size_um_embedded": UM_PER_PX,
        "pixel_size_um_estimated": UM_PER_PX,
        "magnification": "20x",
        "fullres_px_width": width,
        "fullres_px_height": height,
    }


# --- What other tools make --------------------------------------------------------------------------------------------

EXTERNAL_GENES = 1000


def _write_external(path: Path, counts: Path) -> None:
    """Write what another tool might predict of the `EXTERNAL_GENES` of most variance: smoothed log counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = anndata.read_h5ad(counts)
    logs = sparse.csc_matrix(measured.X, dtype=np.float32).log1p()
    variance = logs.power(2).mean(axis=0).A1 - logs.mean(axis=0).A1 ** 2
    chosen = np.sort(np.argsort(-variance)[:EXTERNAL_GENES])
    smoothed = ndimage.uniform_filter1d(logs[:, chosen].toarray(), 9, axis=0)
    names = measured.var_names[chosen]
    write_anndata(path, anndata.AnnData(smoothed, pd.DataFrame(index=measured.obs_names), pd.DataFrame(index=names)))


def _write_bench_task(root: Path, members: Sequence[Slide]) -> None:
    """Lay out a task of the HEST benchmark whose slides are links to those of the Xenium cohort."""
    if len(members) < 2:
        return
    folder = root / "bench" / BENCH_TASK
    for part in ("adata", "patches", "splits"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for slide in members:
        files = hest.sample_files(root / "data", slide.sample)
        for link, target in (
            (folder / "adata" / files.counts.name, files.counts),
            (folder / "patches" / files.patches.name, files.patches),
        ):
            link.unlink(missing_ok=True)
            link.symlink_to(target.absolute())
    for fold, (train, test) in enumerate([members, members[::-1]]):
        for part, slide in (("train", train), ("test", test)):
            with (folder / "splits" / f"{part}_{fold}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["sample_id", "patches_path", "expr_path"])
                writer.writerow([slide.sample, f"patches/{slide.sample}.h5", f"adata/{slide.sample}.h5ad"])
    write_json(folder / "var_50genes.json", {"genes": gene_names(members[0].genes)[:50]})
