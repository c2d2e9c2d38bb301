"""Pictures of whole slides drawn in optical density: tissue, haze, ink and glass."""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

UM_PER_PX = 8.0
GLASS = np.array([236, 222, 236])
HAEMATOXYLIN_EOSIN = np.array([0.16, 0.36, 0.16])
EOSIN_HAZE = np.array([0.01, 0.10, 0.05])
INKS = {"green": (40, 140, 80), "blue": (40, 70, 180), "black": (30, 30, 35), "red": (215, 35, 45)}


def stroke(size, shape, width=0):
    """Bool (height, width) of an ellipse (4 numbers), or of a line through points (more)."""
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    if width:
        draw.line(shape, fill=1, width=width)
    else:
        draw.ellipse(shape, fill=1)
    return np.asarray(image)


class Slide:
    """A blank slide of glass on which things are put, at `UM_PER_PX`."""

    def __init__(self, size=(400, 300), glass=GLASS, seed=0):
        self.size, self.glass = size, glass
        self.density = np.zeros((size[1], size[0], 3))
        self.rng = np.random.default_rng(seed)

    def noise(self, sigma=0.7):
        field = gaussian_filter(self.rng.normal(size=self.size[::-1]), sigma)
        return field / field.std()

    def tissue(self, mask, colour=HAEMATOXYLIN_EOSIN, contrast=0.45):
        self.density += mask[..., None] * colour * np.clip(1 + contrast * self.noise(), 0.1, None)[..., None]
        return self

    def haze(self, mask, strength=1.0):
        self.density += gaussian_filter(mask.astype(float), 12)[..., None] * EOSIN_HAZE * strength
        return self

    def ink(self, mask, colour):
        density = -np.log10(np.maximum(colour, 1) / np.array(255.0))
        thickness = gaussian_filter(mask * (1 + 0.2 * self.noise(4)), 1)
        self.density += thickness[..., None] * density
        return self

    def picture(self):
        light = self.glass * 10**-self.density + self.rng.normal(0, 0.8, self.density.shape)
        return Image.fromarray(np.clip(light, 0, 255).round().astype(np.uint8))
