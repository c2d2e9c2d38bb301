"""Tiles of plain TIFF slides, decoded without OpenSlide.

OpenSlide takes several times as long to compose a region as its tiles take to decode. The pixels are the same.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import openslide

if TYPE_CHECKING:
    import tifffile

# Patches of one row of spots cover two or three rows of tiles, about 90 MiB on a slide that is 30,000 px wide
TILE_CACHE_BYTES = 256 * 2**20
# Compression and colours of the TIFFs that are decoded here
_PLAIN_COLOURS = {("JPEG", "RGB"), ("JPEG", "YCBCR"), *((name, "RGB") for name in ("NONE", "LZW", "ADOBE_DEFLATE"))}


class TiffTiles:
    """Decode tiles of one level, and cache each until its last expected use."""

    def __init__(self, page: tifffile.TiffPage):
        self.width, self.height = page.imagewidth, page.imagelength
        self.edge = page.tilewidth, page.tilelength
        self.across = -(-self.width // page.tilewidth)
        self.offsets, self.sizes = page.dataoffsets, page.databytecounts
        self.tables, self.decode = page.jpegtables, page.decode
        self.max_cached = TILE_CACHE_BYTES // (3 * page.tilewidth * page.tilelength)
        self.pending: Counter[int] = Counter()  # regions still to be read, by tile
        self.cache: dict[int, np.ndarray] = {}
        self.lock = Lock()

    @classmethod
    def of_level(cls, path: Path, slide: openslide.OpenSlide, level: int) -> TiffTiles | None:
        """Open a level, or return ``None`` if OpenSlide does not just join tiles.

        It does so in scanners' own formats, and shifts levels of a fractional downsample by parts of a pixel.
        """
        plain = slide.properties[openslide.PROPERTY_NAME_VENDOR] == "generic-tiff"
        if not plain or not slide.level_downsamples[level].is_integer():
            return None
        import tifffile  # not needed to read patches

        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                size, colours = (page.imagewidth, page.imagelength), (page.compression.name, page.photometric.name)
                is_level = page.is_tiled and (page.index == 0 or page.is_reduced)
                if size == slide.level_dimensions[level] and is_level and colours in _PLAIN_COLOURS:
                    supported = page.shape[2:] == (3,) and page.dtype == np.uint8 and all(page.databytecounts)
                    return cls(page) if supported else None
        return None

    def expect(self, regions: Iterable[tuple[int, int, int]]) -> None:
        """Announce the regions (x, y, n_px) to be read, which tiles are cached for.

        Tiles that were not announced, or do not fit into `TILE_CACHE_BYTES`, are decoded again for each region.
        """
        for region in regions:
            self.pending.update(index for index, _, _ in self._touched(*region))

    def region(self, file: int, x: int, y: int, n_px: int) -> np.ndarray:
        """Read an RGB square from its corner (x, y), white beyond the level."""
        pixels = np.empty((n_px, n_px, 3), dtype=np.uint8)
        if not (0 <= x <= self.width - n_px and 0 <= y <= self.height - n_px):
            pixels.fill(255)
        for index, (left, right, from_x), (top, bottom, from_y) in self._touched(x, y, n_px):
            pixels[top - y : bottom - y, left - x : right - x] = self._tile(file, index)[
                top - from_y : bottom - from_y, left - from_x : right - from_x
            ]
        return pixels

    def _touched(self, x: int, y: int, n_px: int) -> Iterator[tuple[int, tuple[int, int, int], tuple[int, int, int]]]:
        """Yield index of each tile in a square, and (first, last, start) per axis."""
        columns, rows = (
            _along(max(corner, 0), min(corner + n_px, size), edge)
            for corner, size, edge in zip((x, y), (self.width, self.height), self.edge, strict=True)
        )
        return ((row * self.across + column, along_x, along_y) for row, along_y in rows for column, along_x in columns)

    def _tile(self, file: int, index: int) -> np.ndarray:
        with self.lock:
            self.pending[index] -= 1
            if index in self.cache:
                return self._cached(index, self.cache[index])
        content = os.pread(file, self.sizes[index], self.offsets[index])
        try:
            tile = self.decode(content, index, jpegtables=self.tables)[0][0]
        except (RuntimeError, ValueError, TypeError) as error:
            raise openslide.OpenSlideError(f"tile {index}: {error}") from error
        with self.lock:
            return self._cached(index, tile)

    def _cached(self, index: int, tile: np.ndarray) -> np.ndarray:
        """Return the tile and cache it while regions are pending."""
        if self.pending[index] > 0:
            self.cache[index] = tile
            if len(self.cache) > self.max_cached:
                del self.cache[next(iter(self.cache))]  # the one decoded first
        else:
            self.cache.pop(index, None)
        return tile


def _along(first: int, last: int, edge: int) -> list[tuple[int, tuple[int, int, int]]]:
    """List tiles between two pixels of an axis with (first, last, start)."""
    return [
        (tile, (max(first, tile * edge), min(last, (tile + 1) * edge), tile * edge))
        for tile in range(first // edge, -(-last // edge))
        if first < last
    ]
