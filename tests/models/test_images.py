"""Claims about operations on images: symmetries without bias, normalisation by the formula."""

import numpy as np
import torch
from scipy.stats import chisquare

from spotwise.models.images import augment, normalise, turn


def images(n, side=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, size=(n, side, side, 3), dtype=np.uint8))


def symmetries(image):
    """Return the eight symmetries of the square, by numpy."""
    return [np.rot90(flipped, turns) for flipped in (image, image[:, ::-1]) for turns in range(4)]


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_the_eight_codes_are_the_eight_symmetries_of_the_square():
    image = images(1)
    turned = {turn(image, code)[0].numpy().tobytes() for code in range(8)}
    assert turned == {np.ascontiguousarray(one).tobytes() for one in symmetries(image[0].numpy())}
    assert len(turned) == 8


def which_symmetry(before, after):
    """Return the number of the symmetry that each image underwent."""
    found = []
    for old, new in zip(before.numpy(), after.numpy(), strict=True):
        same = [number for number, one in enumerate(symmetries(old)) if np.array_equal(one, new)]
        assert len(same) == 1, "no symmetry of the image"
        found.append(same[0])
    return np.array(found)


def test_every_image_is_turned_by_a_symmetry_and_all_are_equally_likely():
    before = images(2000, side=4)
    after = augment(before, torch.Generator().manual_seed(0))
    counts = np.bincount(which_symmetry(before, after), minlength=8)
    assert chisquare(counts).pvalue > 0.01


def test_images_are_turned_independently_of_each_other():
    before = images(2000, side=4)
    found = which_symmetry(before, augment(before, torch.Generator().manual_seed(1)))
    pairs = np.bincount(8 * found[:-1:2] + found[1::2], minlength=64)
    assert chisquare(pairs).pvalue > 0.01


def test_augmentation_follows_its_seed():
    first, again, other = (augment(images(50), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augmentation_leaves_its_input_alone():
    before = images(50)
    augment(before, torch.Generator().manual_seed(0))
    assert torch.equal(before, images(50))


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_normalisation_is_imagenets():
    patches = images(3)
    expected = (patches.numpy() / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    normalised = normalise(patches)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert torch.equal(patches, images(3))


def test_normalisation_uses_the_given_mean_and_standard_deviation():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (images(3).numpy() / 255.0 - mean) / std
    np.testing.assert_allclose(normalise(images(3), mean, std).numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)
