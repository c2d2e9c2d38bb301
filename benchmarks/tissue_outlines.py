"""Tissue found on real slides, against the spots that are published as in tissue.

    OMP_NUM_THREADS=1 python -m benchmarks.tissue_outlines DATA

with a folder in HEST's layout writes ``docs/results/tissue_outlines.txt``. Each slide is outlined as it is, with its
picture changed as other scanners and stainers would, and with strokes of four pens across it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from spotwise.constants import SPATIAL
from spotwise.data.counts_reader import read_counts
from spotwise.data.spot_grid import LEAST_TISSUE, tissue_shares
from spotwise.data.tissue_detection import PICTURE_UM, detect_tissue
from spotwise.data.tissue_outline import outline_mask
from spotwise.data.unsequenced_slides import slide_facts, slide_picture
from spotwise.runtime.files import write_text

RESULT = Path(__file__).parents[1] / "docs" / "results" / "tissue_outlines.txt"
OFF_TISSUE_UM = 300.0  # from the nearest published spot
PENS = {"green": (40, 140, 80), "blue": (40, 70, 180), "black": (30, 30, 35), "red": (215, 35, 45)}
STROKE_UM, STROKE_BLUR_UM = 350.0, 12.0


def _density(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image.Image], Image.Image]:
    """Change the optical density (height, width, 3) above glass of a picture."""

    def changed(picture: Image.Image) -> Image.Image:
        pixels = np.maximum(np.asarray(picture, dtype=np.float64), 1)
        glass = np.percentile(pixels, 90, axis=(0, 1))
        light = glass * 10 ** -change(np.log10(glass / pixels))
        return Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))

    return changed


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda picture: picture,
    "half the stain": _density(lambda density: density / 2),
    "1.6 times the stain": _density(lambda density: 1.6 * density),
    "yellow glass": _density(lambda density: density + np.array([0, 0.013, 0.1])),
    "a side 20 % darker": _density(lambda density: density + np.linspace(0.1, 0, density.shape[1])[:, None]),
    "out of focus by 16 um": lambda picture: picture.filter(ImageFilter.GaussianBlur(16 / PICTURE_UM)),
    "pixels of 16 um": lambda picture: picture.reduce(2),
    "pixels of 24 um": lambda picture: picture.reduce(3),
}


def strokes(size: tuple[int, int], um_per_px: float) -> Image.Image:
    """Draw two strokes of each pen on a white picture, one bent in the upper third, and one upwards from below."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    width, height = size
    for number, colour in enumerate(PENS.values()):
        x = width * (0.1 + 0.2 * number)
        bent = [(x, 0.05 * height), (x + 0.15 * width, 0.15 * height), (x, 0.3 * height)]
        upwards = [(x, 0.95 * height), (x + 0.1 * width, (0.35 + 0.1 * number) * height)]
        for line in (bent, upwards):
            draw.line(line, fill=colour, width=round(STROKE_UM / um_per_px), joint="curve")
    return picture


def marked(picture: Image.Image, drawn: Image.Image, um_per_px: float) -> Image.Image:
    """Put ink over a picture, of uneven thickness and with a blurred rim."""
    thickness = gaussian_filter(np.random.default_rng(0).normal(size=picture.size[::-1]), 6)
    thickness = 1 + 0.25 * thickness / thickness.std()
    density = -np.log10(np.maximum(np.asarray(drawn, dtype=np.float64), 1) / 255) * thickness[..., None]
    density = gaussian_filter(density, (*(STROKE_BLUR_UM / um_per_px,) * 2, 0))
    return Image.fromarray((np.asarray(picture) * 10**-density).astype(np.uint8))


def off_tissue(centres: np.ndarray, size: tuple[int, int], um_per_px: float) -> shapely.Geometry:
    """Return the part of a slide that is far from all spots (N, 2)."""
    near = shapely.union_all(shapely.points(centres)).buffer(OFF_TISSUE_UM / um_per_px)
    return shapely.box(0, 0, *size).difference(near)


def read(slide: Path) -> tuple[Image.Image, tuple[int, int], float]:
    """Return a slide's picture at `PICTURE_UM`, its size and the size of its pixels."""
    facts = slide_facts(slide, str(slide))
    size, um_per_px = (facts["width"], facts["height"]), facts["um_per_px"]
    picture, _ = slide_picture(slide, str(slide), um_per_px)
    reduced = [round(edge * um_per_px / PICTURE_UM) for edge in size]
    return picture.resize(reduced, Image.Resampling.BOX), size, um_per_px


def measure_changes(slide: Path, counts: Path) -> pd.DataFrame:
    """Measure what is found of a slide under all `CHANGES`."""
    picture, size, um_per_px = read(slide)
    centres = np.asarray(read_counts(counts).obsm[SPATIAL])
    glass = off_tissue(centres, size, um_per_px)
    rows = []
    for change, changed in CHANGES.items():
        other = changed(picture)
        found = detect_tissue(other, um_per_px * size[0] / other.width)
        tissue = outline_mask(found.tissue, size)
        missed = tissue_shares(tissue, centres, um_per_px) < LEAST_TISSUE
        taken = tissue.intersection(glass).area / glass.area
        rows.append((change, slide.stem, len(centres), int(missed.sum()), 100 * taken, 100 * found.ink.mean()))
    return pd.DataFrame(rows, columns=["picture", "slide", "spots", "missed", "% of glass taken", "% called ink"])


def measure_pens(slide: Path) -> dict[str, object]:
    """Measure how much of each pen's marks on the glass is taken for tissue."""
    picture, _, _ = read(slide)
    drawn = strokes(picture.size, PICTURE_UM)
    found = detect_tissue(marked(picture, drawn, PICTURE_UM), PICTURE_UM).tissue
    before = detect_tissue(picture, PICTURE_UM).tissue
    inks = {name: (np.asarray(drawn) == colour).all(axis=2) for name, colour in PENS.items()}
    unmarked = before & ~np.any(list(inks.values()), axis=0)
    taken = {f"{name}, % taken": 100 * found[mark & ~before].mean() for name, mark in inks.items()}
    return {"slide": slide.stem, **taken, "tissue kept beside the ink, %": 100 * found[unmarked].mean()}


INTRODUCTION = f"""\
Tissue found on real slides. Written by `python -m benchmarks.tissue_outlines`.

missed: published spots, all in tissue, whose patch is less than {LEAST_TISSUE:.0%} tissue; % of glass taken: area
further than {OFF_TISSUE_UM:.0f} um from all published spots that is taken for tissue; % called ink: of the slide, which
has none. The limits of the detection were chosen on these slides as they are, not on their changed pictures.
"""


def main() -> None:
    """Measure all slides of a folder in HEST's layout and write the table."""
    root = Path(sys.argv[1])
    slides = sorted((root / "wsis").iterdir())
    table = pd.concat([measure_changes(slide, root / "st" / f"{slide.stem}.h5ad") for slide in slides])
    table = table.sort_values("picture", key=lambda column: column.map(list(CHANGES).index), kind="stable")
    pens = pd.DataFrame([measure_pens(slide) for slide in slides])
    lines = [
        INTRODUCTION,
        table.to_string(index=False, float_format="{:.3f}".format),
        "\nStrokes of pens, 0.35 mm wide, of each the share on glass that is taken for tissue:\n",
        pens.to_string(index=False, float_format="{:.2f}".format),
    ]
    write_text(RESULT, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
