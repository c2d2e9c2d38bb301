"""What clustering methods are trained on: scaling by hand, genes in common, roles."""

import math

import numpy as np
import pytest
from scipy import sparse

from spotwise.constants import TRAIN, VAL
from spotwise.data.folds import SlideSpots, content_hash
from spotwise.errors import InputError
from spotwise.models.sizes import Sizes
from spotwise.structure.clustering_fold import assemble_clustering_fold, scale_counts


def slide(counts, genes, name):
    counts = sparse.csr_matrix(np.asarray(counts, dtype=np.float32))
    n = counts.shape[0]
    return SlideSpots(
        genes=np.array(genes, dtype=object),
        expression=counts,
        barcode=np.array([f"{name}{spot}" for spot in range(n)], dtype=object),
        patch=np.arange(n)[::-1].copy(),
        spatial=np.random.default_rng(0).uniform(size=(n, 2)),
        array=np.stack([np.arange(n), np.arange(n)], axis=1),
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
    )


def test_scaling_by_hand():
    # 1 million counts in the first spot, so that its counts are its CPM; 4 counts in the second
    counts = [[0, 999_993, 7, 0], [0, 3, 1, 0]]
    found = scale_counts(sparse.csr_matrix(np.array(counts, dtype=np.float32))).toarray()
    cpm = [[0, 999_993, 7, 0], [0, 750_000, 250_000, 0]]
    largest = [1, math.log2(999_994), math.log2(250_001), 1]
    expected = [[math.log2(1 + value) / top for value, top in zip(row, largest, strict=True)] for row in cpm]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32


def test_a_gene_is_never_divided_by_less_than_one():
    # CPM 0.25 in both spots: log2(1.25) = 0.32, which division by itself would make 1
    counts = np.array([[1, 3_999_999], [1, 3_999_999]], dtype=np.float64)
    found = scale_counts(sparse.csr_matrix(counts)).toarray()
    np.testing.assert_allclose(found[:, 0], math.log2(1.25), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], 1, rtol=1e-6)


def random_slides():
    rng = np.random.default_rng(1)
    first, second = rng.poisson(3, size=(20, 4)) + 1, rng.poisson(3, size=(10, 4)) + 1
    first[:, 1] = 0  # B: counted on the second slide only
    first[:, 3] = second[:, 3] = 0  # D: on none
    return {
        "S2": slide(first, ["E", "B", "A", "D"], "x"),  # C is not measured
        "S1": slide(np.c_[second, rng.poisson(3, size=10)], ["A", "B", "E", "D", "C"], "y"),
    }


def test_slides_are_scaled_separately_and_joined_on_their_common_detected_genes():
    slides = random_slides()
    fold = assemble_clustering_fold(slides, {"S1": "P", "S2": "Q"}, "c", 0.2)
    assert fold.genes.tolist() == ["A", "B", "E"]
    assert fold.sample.tolist() == ["S2"] * 20 + ["S1"] * 10  # spots keep their order
    assert fold.barcode.tolist() == [*slides["S2"].barcode, *slides["S1"].barcode]
    assert fold.patient.tolist() == ["Q"] * 20 + ["P"] * 10
    assert fold.patch[:20].tolist() == list(range(20))[::-1]
    # by hand: counts per million over all genes of the slide, the one not in common included
    for sample, columns in (("S2", [2, 1, 0]), ("S1", [0, 1, 2])):
        counts = slides[sample].expression.toarray().astype(float)
        logs = np.log2(1 + 1e6 * counts / counts.sum(axis=1, keepdims=True))
        expected = (logs / np.maximum(logs.max(axis=0), 1))[:, columns]
        np.testing.assert_allclose(fold.expression[fold.sample == sample], expected, rtol=1e-5)
    assert (fold.expression[:20, 1] == 0).all()


def test_a_fifth_of_each_slides_spots_is_held_out_at_random_and_always_the_same():
    fold = assemble_clustering_fold(random_slides(), {"S1": "P", "S2": "Q"}, "c", 0.2)
    assert set(fold.role) == {TRAIN, VAL}
    for sample, expected in (("S2", 4), ("S1", 2)):
        held_out = fold.rows(VAL, sample=sample)
        assert len(held_out) == expected
        assert np.ptp(held_out) >= expected  # no block
    assert Sizes.of(fold).training == 24
    assert content_hash(fold) == content_hash(
        assemble_clustering_fold(random_slides(), {"S1": "P", "S2": "Q"}, "c", 0.2)
    )


def test_a_slide_without_common_genes_or_with_too_few_spots_is_refused():
    alone = {"S1": slide([[1, 2]] * 9, ["A", "B"], "x"), "S2": slide([[1, 2]] * 9, ["C", "D"], "y")}
    with pytest.raises(InputError, match="c: genes: found none with a count in common to S1, S2"):
        assemble_clustering_fold(alone, {"S1": "P", "S2": "P"}, "c", 0.2)
    with pytest.raises(InputError, match="no val spot"):
        assemble_clustering_fold({"S1": slide([[1, 2]] * 2, ["A", "B"], "x")}, {"S1": "P"}, "c", 0.2)
