"""Tiles of plain TIFF slides, decoded without OpenSlide."""

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

# Patches of one row of spots reach over two or three rows of tiles; on a 30,000 px wide slide these are about 90 MiB.
TILE_CACHE_BYTES = 256 * 2**20
# Compression and colours of TIFFs whose tiles are decoded without OpenSlide.
_PLAIN_COLOURS = {("JPEG", "RGB"), ("JPEG", "YCBCR"), *((name, "RGB") for name in ("NONE", "LZW", "ADOBE_DEFLATE"))}


class TiffTiles:
    """Tiles of one level of a plain TIFF, decoded as needed and kept while more is to be read of them.

    OpenSlide takes several times as long to compose a region as its tiles take to decode. The pixels are the same.
    """

    def __init__(self, page: tifffile.TiffPage):
        self.width, self.height = page.imagewidth, page.imagelength
        self.edge = page.tilewidth, page.tilelength
        self.across = -(-self.width // page.tilewidth)
        self.offsets, self.sizes = page.dataoffsets, page.databytecounts
        self.tables, self.decode = page.jpegtables, page.decode
        self.most = TILE_CACHE_BYTES // (3 * page.tilewidth * page.tilelength)
        self.to_come: Counter[int] = Counter()  # regions still to be read, by tile
        self.kept: dict[int, np.ndarray] = {}
        self.lock = Lock()

    @classmethod
    def of_level(cls, path: Path, slide: openslide.OpenSlide, level: int) -> TiffTiles | None:
        """The tiles of a level; ``None`` where OpenSlide does more than put tiles side by side.

        That is in scanners' own formats, and on levels of a broken downsample, where it shifts by parts of a pixel.
        """
        plain = slide.properties[openslide.PROPERTY_NAME_VENDOR] == "generic-tiff"
        if not plain or not slide.level_downsamples[level].is_integer():
            return None
        import tifffile  # not for those who only read patches

        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                size, colours = (page.imagewidth, page.imagelength), (page.compression.name, page.photometric.name)
                if size == slide.level_dimensions[level] and page.is_tiled and colours in _PLAIN_COLOURS:
                    usual = page.shape[2:] == (3,) and page.dtype == np.uint8 and all(page.databytecounts)
                    return cls(page) if usual else None
        return None

    def expect(self, regions: Iterable[tuple[int, int, int]]) -> None:
        """Announce what `region` will be asked for, as (x, y, n_px): a tile is kept until the last of them is read.

        One that nobody announced is decoded anew for each region; so is one that `TILE_CACHE_BYTES` have no room for.
        """
        for region in regions:
            self.to_come.update(index for index, _, _ in self._touched(*region))

    def region(self, file: int, x: int, y: int, n_px: int) -> np.ndarray:
        """The RGB square (n_px, n_px, 3) from the corner (x, y); white beyond the level."""
        pixels = np.empty((n_px, n_px, 3), dtype=np.uint8)
        if not (0 <= x <= self.width - n_px and 0 <= y <= self.height - n_px):
            pixels.fill(255)
        for index, (left, right, from_x), (top, bottom, from_y) in self._touched(x, y, n_px):
            pixels[top - y : bottom - y, left - x : right - x] = self._tile(file, index)[
                top - from_y : bottom - from_y, left - from_x : right - from_x
            ]
        return pixels

    def _touched(self, x: int, y: int, n_px: int) -> Iterator[tuple[int, tuple[int, int, int], tuple[int, int, int]]]:
        """Each tile that a square shows: index, and along x and y from where to where and where the tile begins."""
        columns, rows = (
            _along(max(corner, 0), min(corner + n_px, size), edge)
            for corner, size, edge in zip((x, y), (self.width, self.height), self.edge, strict=True)
        )
        return ((row * self.across + column, along_x, along_y) for row, along_y in rows for column, along_x in columns)

    def _tile(self, file: int, index: int) -> np.ndarray:
        with self.lock:
            self.to_come[index] -= 1
            if index in self.kept:
                return self._kept(index, self.kept[index])
        content = os.pread(file, self.sizes[index], self.offsets[index])
        try:
            tile = self.decode(content, index, jpegtables=self.tables)[0][0]
        except (RuntimeError, ValueError, TypeError) as error:
            raise openslide.OpenSlideError(f"tile {index}: {error}") from error
        with self.lock:
            return self._kept(index, tile)

    def _kept(self, index: int, tile: np.ndarray) -> np.ndarray:
        """``tile``, kept if more is to be read of it, or else let go, so that the next one takes its memory."""
        if self.to_come[index] > 0:
            self.kept[index] = tile
            if len(self.kept) > self.most:
                del self.kept[next(iter(self.kept))]  # the one decoded first
        else:
            self.kept.pop(index, None)
        return tile


def _along(first: int, last: int, edge: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Tiles of so many pixels between two: number, and from where to where it is seen and where it begins."""
    return [
        (tile, (max(first, tile * edge), min(last, (tile + 1) * edge), tile * edge))
        for tile in range(first // edge, -(-last // edge))
        if first < last
    ]
