"""Tiles of plain TIFF slides, decoded without OpenSlide."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
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
    """Tiles of one level of a plain TIFF, decoded as needed; the latest are kept.

    OpenSlide takes several times as long to compose a region as its tiles take to decode. The pixels are the same.
    """

    def __init__(self, page: tifffile.TiffPage):
        self.width, self.height = page.imagewidth, page.imagelength
        self.edge = page.tilewidth, page.tilelength
        self.across = -(-self.width // page.tilewidth)
        self.offsets, self.sizes = page.dataoffsets, page.databytecounts
        self.tables, self.decode = page.jpegtables, page.decode
        self.most = TILE_CACHE_BYTES // (3 * page.tilewidth * page.tilelength)
        self.latest: OrderedDict[int, np.ndarray] = OrderedDict()
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

    def region(self, file: int, first: Sequence[int], n_px: int) -> np.ndarray:
        """The RGB square (n_px, n_px, 3) from the corner `first` (x, y); white beyond the level."""
        (x0, y0), (wide, high) = first, self.edge
        left, right = max(x0, 0), min(x0 + n_px, self.width)
        top, bottom = max(y0, 0), min(y0 + n_px, self.height)
        pixels = np.full((n_px, n_px, 3), 255, dtype=np.uint8)
        for row in range(top // high, -(-bottom // high)):
            y, from_y, to_y = row * high, max(top, row * high), min(bottom, (row + 1) * high)
            for column in range(left // wide, -(-right // wide)):
                x, from_x, to_x = column * wide, max(left, column * wide), min(right, (column + 1) * wide)
                tile = self._tile(file, row * self.across + column)
                pixels[from_y - y0 : to_y - y0, from_x - x0 : to_x - x0] = tile[
                    from_y - y : to_y - y, from_x - x : to_x - x
                ]
        return pixels

    def _tile(self, file: int, index: int) -> np.ndarray:
        with self.lock:
            if index in self.latest:
                self.latest.move_to_end(index)
                return self.latest[index]
        content = os.pread(file, self.sizes[index], self.offsets[index])
        try:
            tile = self.decode(content, index, jpegtables=self.tables)[0][0]
        except (RuntimeError, ValueError, TypeError) as error:
            raise openslide.OpenSlideError(f"tile {index}: {error}") from error
        with self.lock:
            self.latest[index] = tile
            if len(self.latest) > self.most:
                self.latest.popitem(last=False)
        return tile
