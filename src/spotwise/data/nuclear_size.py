"""Size of nuclei in patches: a ruler in the tissue that stain and scanner hardly change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, maximum
from scipy.stats import trim_mean
from skimage.filters import threshold_otsu

MIN_NUCLEI = 50  # to take a mean
_SMOOTHING_PX = 1.0
_GLASS_PERCENTILE, _MIN_DENSITY = 1, 0.1  # red density of the emptiest pixels, and of tissue above it
_MIN_RADIUS_PX = 1.5  # smaller dots are noise


class Nuclei(NamedTuple):
    """Size and number of the nuclei of some patches."""

    radius_px: float  # interquartile mean, NaN below `MIN_NUCLEI`
    n: int


def measure_nuclei(images: np.ndarray) -> Nuclei:
    """Measure the nuclei of images (B, H, W, 3) uint8 of one slide.

    Haematoxylin absorbs red light, eosin hardly does: nuclei are the connected areas in which the smoothed optical
    density in red exceeds Otsu's threshold over the tissue of all images. The radius of an area is that of the largest
    disk that fits into it, which nuclei that touch share with single ones.
    """
    densities = np.stack([_red_density(image) for image in images])
    tissue = densities[densities > np.percentile(densities, _GLASS_PERCENTILE) + _MIN_DENSITY]
    if not len(tissue) or np.ptp(tissue) == 0:
        return Nuclei(float("nan"), 0)
    threshold = threshold_otsu(tissue)
    radii = np.concatenate([_radii(density > threshold) for density in densities])
    radii = radii[radii > _MIN_RADIUS_PX]
    return Nuclei(float(trim_mean(radii, 0.25)) if len(radii) >= MIN_NUCLEI else float("nan"), len(radii))


def _red_density(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(-np.log((image[..., 0].astype(np.float32) + 1) / 256), _SMOOTHING_PX)


def _radii(nuclei: np.ndarray) -> np.ndarray:
    """Return the radius (n,) in pixels of the largest disk in each connected area of a mask (H, W)."""
    areas, n = label(nuclei)
    return np.asarray(maximum(distance_transform_edt(nuclei), areas, np.arange(1, n + 1))) if n else np.empty(0)
