"""Benchmark of cutting patches around the spots of a slide."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import openslide
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.machine import Machine
from benchmarks.table import AtLeast, AtMost, Limit, Row
from benchmarks.timing import Ratio, in_turns
from spotwise.constants import BARCODES, COORDS, IMAGES
from spotwise.data.patches import RESAMPLING, extract_patches
from spotwise.data.synthetic_slide import write_pyramid

PATCH_UM, TARGET_PX = 112.0, 224
REPEATS = 5


@dataclass(frozen=True)
class Spots:
    """A slide of a square of spots.

    Attributes
    ----------
    name
        For the table.
    per_edge
        Spots along an edge.
    pitch_um
        Distance of neighbours.
    um_per_px
        Pixel size of the slide's level 0.
    """

    name: str
    per_edge: int
    pitch_um: float
    um_per_px: float

    def centres(self) -> np.ndarray:
        """(N, 2) in pixels of level 0; no patch reaches beyond the slide."""
        along = (np.arange(self.per_edge) + 0.7) * self.pitch_um / self.um_per_px
        return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)

    def edge_px(self) -> int:
        """Edge of the slide."""
        return round((self.per_edge + 0.4) * self.pitch_um / self.um_per_px)


FULL = (
    Spots("at Visium pitch: patches overlap", 30, 100.0, 0.5),
    Spots("200 um apart", 20, 200.0, 0.5),
    Spots("200 um apart, level 0 of 0.27 um", 14, 200.0, 0.27),
)


def write_slide(path: Path, spots: Spots) -> None:
    """Write a slide with the texture of tissue, whose tiles decode as slowly as real ones."""
    rng = np.random.default_rng(0)
    tile = gaussian_filter(rng.normal(size=(512, 512, 3)), (1.5, 1.5, 0), mode="wrap")
    tile = np.clip(180 + 35 * tile / tile.std(), 0, 255).astype(np.uint8)
    edge = spots.edge_px()
    repeats = -(-edge // 512)
    write_pyramid(path, Image.fromarray(np.tile(tile, (repeats, repeats, 1))[:edge, :edge]), spots.um_per_px)


def spot_by_spot(slide: Path, centres: np.ndarray, um_per_px: float, output: Path) -> None:
    """Cut patches as HEST does: read, resize and append one region per spot, reopening the file each time."""
    source_px = round(PATCH_UM / um_per_px)
    with openslide.OpenSlide(slide) as opened:
        level = opened.get_best_level_for_downsample(PATCH_UM / TARGET_PX / um_per_px)
        level_px = round(source_px / opened.level_downsamples[level])
        for spot, centre in enumerate(centres):
            corner = np.floor(centre - source_px / 2 + 0.5).astype(int)
            region = opened.read_region(tuple(corner.tolist()), level, (level_px, level_px)).convert("RGB")
            patch = np.asarray(region.resize((TARGET_PX, TARGET_PX), RESAMPLING))
            append(output, {IMAGES: patch[None], COORDS: corner[None], BARCODES: np.array([[str(spot)]], object)})


def append(output: Path, content: dict[str, np.ndarray]) -> None:
    """Append rows to datasets of a file, creating them if needed."""
    with h5py.File(output, "a") as file:
        for name, rows in content.items():
            if name not in file:
                dtype = h5py.string_dtype() if rows.dtype == object else rows.dtype
                file.create_dataset(name, data=rows, dtype=dtype, maxshape=(None, *rows.shape[1:]), chunks=rows.shape)
            else:
                file[name].resize(len(file[name]) + len(rows), axis=0)
                file[name][-len(rows) :] = rows


def tiles_once(slide: Path, centres: np.ndarray, um_per_px: float) -> int:
    """Decode each tile of level 0 under a patch once, in file order, and return their number."""
    half = round(PATCH_UM / um_per_px) / 2
    with tifffile.TiffFile(slide) as tiff:
        page = tiff.pages[0]
        across = -(-page.imagewidth // page.tilewidth)
        first, last = ((centres + side * half) // (page.tilewidth, page.tilelength) for side in (-1, 1))
        needed = {
            int(y * across + x)
            for (x0, y0), (x1, y1) in zip(first, last, strict=True)
            for y in range(int(y0), int(y1) + 1)
            for x in range(int(x0), int(x1) + 1)
        }
        # tifffile reads from the file when these are first asked for
        offsets, sizes, tables, decode = page.dataoffsets, page.databytecounts, page.jpegtables, page.decode
        for tile in sorted(needed):
            tiff.filehandle.seek(offsets[tile])
            decode(tiff.filehandle.read(sizes[tile]), tile, jpegtables=tables)
    return len(needed)


def resized(n: int, source_px: int) -> None:
    """Resize ``n`` patches and nothing else."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (source_px, source_px, 3), dtype=np.uint8))
    for _ in range(n):
        image.resize((TARGET_PX, TARGET_PX), RESAMPLING, (0.25, 0.25, source_px - 0.25, source_px - 0.25))


def rows(machine: Machine) -> list[Row]:
    """Measure each kind of slide against the published way and against decoding alone, on one core and two."""
    with tempfile.TemporaryDirectory() as scratch:
        return [row for spots in FULL for row in rows_of_slide(spots, Path(scratch))]


def rows_of_slide(spots: Spots, scratch: Path) -> list[Row]:
    """Measure one slide."""
    slide, output = scratch / "slide.tif", scratch / "patches.h5"
    write_slide(slide, spots)
    centres = spots.centres()
    barcodes = [str(spot) for spot in range(len(centres))]
    cut = partial(extract_patches, slide, centres, barcodes, spots.um_per_px, output)
    times = in_turns(
        {
            "product": cut,
            "two threads": partial(cut, threads=2),
            "spot by spot": partial(spot_by_spot, slide, centres, spots.um_per_px, output),
            "tiles": partial(tiles_once, slide, centres, spots.um_per_px),
            "resizing": partial(resized, len(centres), round(PATCH_UM / spots.um_per_px)),
        },
        REPEATS,
        before=lambda: output.unlink(missing_ok=True),
    )
    work = f"patches of {len(centres)} spots, {spots.name}, {spots.um_per_px} um/px"
    overlaps = spots.pitch_um < PATCH_UM
    each = {name: 1000 * time.median / len(centres) for name, time in times.items()}
    if round(PATCH_UM / spots.um_per_px) == TARGET_PX:
        note = f"a patch: {each['product']:.2f} ms, not resized; decoding its tiles takes {each['tiles']:.2f} ms"
    else:
        note = (
            f"a patch: {each['product']:.2f} ms; resizing one with Pillow takes {each['resizing']:.2f} ms, decoding "
            f"its tiles {each['tiles']:.2f} ms: with these two alone the number is "
            f"{1 + each['resizing'] / each['tiles']:.1f}"
        )
    return [
        Row(
            work,
            "spot by spot as HEST / time on 1 core",
            Ratio.of(times["spot by spot"], times["product"]),
            AtLeast(3 if overlaps else 2),
            note="HEST's file is opened for every patch" if overlaps else "",
        ),
        Row(
            work,
            "time on 1 core / decoding each needed tile once",
            Ratio.of(times["product"], times["tiles"]),
            AtMost(1.5),
            Limit("decoding the tiles, one core", times["tiles"].median, times["product"].median),
            note=note,
        ),
        Row(
            work,
            "time on 1 core / time on 2",
            Ratio.of(times["product"], times["two threads"]),
            AtLeast(1.8),
            note="one thread at a time writes to a file, by HDF5's lock and then by the kernel's",
        ),
    ]
