"""Features meet their spots by barcode, in whatever order the patches were embedded."""

import h5py
import numpy as np
import pytest

from spotwise.constants import BARCODES
from spotwise.data.features import features_of, spot_features
from spotwise.errors import InputError


def reordered(path, order):
    with h5py.File(path, "r+") as file:
        for name in ("embedding", BARCODES):
            file[name][:] = file[name][:][order]


def test_the_order_of_embedded_patches_does_not_matter(fold, embedded):
    rows = np.random.default_rng(0).permutation(len(fold.barcode))
    before = features_of(fold, rows, embedded)
    for path in embedded.values():
        with h5py.File(path) as file:
            n_patches = len(file[BARCODES])
        reordered(path, np.random.default_rng(1).permutation(n_patches))
    np.testing.assert_array_equal(features_of(fold, rows, embedded), before)


def test_a_spot_without_features_is_named(fold, embedded):
    barcodes = [*fold.barcode[fold.sample == "A"], "A-unknown"]
    with pytest.raises(InputError, match=r"A-embedded\.h5: barcode: found no features of spot 'A-unknown', expected "):
        spot_features(embedded["A"], barcodes)
