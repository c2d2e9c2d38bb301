"""Tissue in a picture of a whole slide."""

from __future__ import annotations

import numpy as np
import scipy  # loads a subpackage when it is used
from PIL import Image

WIDTH = 256  # in pixels, at which tissue is detected
GLASS_PERCENTILE = 95  # of each channel: glass is the brightest part of a slide
# Optical density above glass at which tissue starts, beyond the haze of stain on her2st's glass
TISSUE_DENSITY = 0.05
LEAST_WINDOW = 4  # pixels of `WIDTH`, about 100 um on the picture of an array
BLACK_DENSITY = 1.3  # of ink, fiducials and areas that were not scanned


def optical_density(picture: Image.Image) -> np.ndarray:
    """Compute the optical density above glass (height, `WIDTH`), averaged over the colours."""
    width, height = picture.size
    size = (WIDTH, max(1, round(WIDTH * height / width)))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.float64)
    glass = np.percentile(pixels, GLASS_PERCENTILE, axis=(0, 1))
    return np.log10(np.maximum(glass, 1) / np.maximum(pixels, 1)).mean(axis=2)


def tissue_mask(picture: Image.Image, window: float) -> np.ndarray:
    """Tell where a picture shows tissue, bool (height, `WIDTH`).

    ``window`` is the edge of the square that is averaged, as a share of the picture's width, so that the white between
    cells does not count as glass.
    """
    density = optical_density(picture)
    density[density > BLACK_DENSITY] = 0
    return scipy.ndimage.uniform_filter(density, max(LEAST_WINDOW, round(window * WIDTH))) > TISSUE_DENSITY
