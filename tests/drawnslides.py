"""Slides drawn pixel by pixel, written as lossless pyramids, and the patches cut from them."""

import h5py
import numpy as np
import tifffile
from PIL import Image


def write_slide(path, levels, um_per_px=None):
    """Lossless tiled TIFF whose pyramid levels are the given (height, width, 3) arrays."""
    resolution = {}
    if um_per_px is not None:
        resolution = {"resolution": tuple(1e4 / np.broadcast_to(um_per_px, 2)), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression="adobe_deflate",
                subfiletype=int(index > 0),
                metadata=None,
                **resolution,
            )
    return path


def halved(image):
    height, width = (edge // 2 * 2 for edge in image.shape[:2])
    quarters = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return quarters.mean(axis=(1, 3)).round().astype(np.uint8)


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height)), dtype=int)
    return np.clip(smooth + rng.integers(-30, 31, smooth.shape), 0, 255).astype(np.uint8)


def images_by_barcode(path):
    with h5py.File(path) as file:
        return dict(zip(file["barcode"].asstr()[:, 0], file["img"][()], strict=True))
