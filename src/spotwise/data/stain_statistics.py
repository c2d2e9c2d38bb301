"""Statistics of the stain and texture of patches, known from the pixels alone."""

from __future__ import annotations

import numpy as np

# Optical density of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston, 2001)
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
PERCENTILES = (5, 25, 50, 75, 95)
LAGS = (1, 2, 4, 8, 16, 32)  # distances in pixels at which texture is measured
_CHANNELS = 5  # optical density of red, green and blue; haematoxylin; eosin
_FIRST_TEXTURE = _CHANNELS * (2 + len(PERCENTILES))
TEXTURES = slice(_FIRST_TEXTURE, _FIRST_TEXTURE + 3 * len(LAGS))  # of the numbers, by lag: density and two stains
WIDTH = TEXTURES.stop + _CHANNELS * (_CHANNELS - 1) // 2


def stain_statistics(images: np.ndarray) -> np.ndarray:
    """Describe images (B, H, W, 3) uint8 by `WIDTH` numbers each, (B, WIDTH) float32.

    Channels are the optical densities of red, green and blue, and the amounts of haematoxylin and eosin. The numbers
    are mean, standard deviation and `PERCENTILES` of each channel; the mean absolute difference of pixels at `LAGS`,
    horizontally and vertically, of the mean density and both stains; and the correlation of each pair of channels, 0
    where one is constant. None changes when an image is turned or flipped.
    """
    return np.stack([_describe(image) for image in images])


def _describe(image: np.ndarray) -> np.ndarray:
    density = -np.log((image.astype(np.float32) + 1) / 256)  # (H, W, 3)
    stains = (density @ np.linalg.inv(STAINS).astype(np.float32))[..., :2]
    pixels = np.concatenate([density, stains], axis=2).reshape(-1, _CHANNELS)
    maps = np.stack([density.mean(axis=2), *np.moveaxis(stains, 2, 0)])  # (3, H, W)
    percentiles = np.percentile(pixels, PERCENTILES, axis=0).ravel()
    textures = [_difference(maps, lag) for lag in LAGS]
    parts = [pixels.mean(axis=0), pixels.std(axis=0), percentiles, *textures, _correlations(pixels)]
    return np.concatenate(parts).astype(np.float32)


def _difference(maps: np.ndarray, lag: int) -> np.ndarray:
    """Compute the mean absolute difference (3,) of pixels at a distance in maps (3, H, W)."""
    down = np.abs(maps[:, lag:] - maps[:, :-lag]).mean(axis=(1, 2))
    right = np.abs(maps[:, :, lag:] - maps[:, :, :-lag]).mean(axis=(1, 2))
    return (down + right) / 2


def _correlations(pixels: np.ndarray) -> np.ndarray:
    """Compute the correlation of each pair of columns of pixels (n, channels)."""
    centred = pixels.astype(np.float64) - pixels.mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred
    spread = np.sqrt(np.diag(covariance))
    product = np.outer(spread, spread)
    correlation = np.divide(covariance, product, out=np.zeros_like(product), where=product > 1e-6)
    return correlation[np.triu_indices(_CHANNELS, 1)]
