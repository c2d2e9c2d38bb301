"""Claims about the spaces of a slide: the baselines, and the file that holds a space."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from arrays import hexagonal, neighbours, square
from spotwise.constants import BASELINE_SPACES
from spotwise.data.folds import SlideSpots
from spotwise.errors import InputError
from spotwise.structure import baselines
from spotwise.structure.spaces import Space, read_space, write_space

N, GENES, CHANNELS = 64, 40, 24


@pytest.fixture
def slide():
    rng = np.random.default_rng(0)
    expression = rng.poisson(rng.gamma(1, 2, GENES), size=(N, GENES)).astype(np.float32)
    return SlideSpots(
        genes=np.array([f"G{gene:02d}" for gene in range(GENES)], dtype=object),
        expression=sparse.csr_matrix(np.log1p(expression)),
        barcode=np.array([f"spot{spot}" for spot in range(N)], dtype=object),
        patch=rng.permutation(N + 5)[:N],
        spatial=square(8),
        array=square(8).astype(int),
        total_counts=expression.sum(axis=1),
    )


@pytest.fixture
def features(slide, tmp_path):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["embedding"] = np.random.default_rng(1).normal(size=(N + 5, CHANNELS)).astype(np.float32)
        barcodes = np.array([f"no spot {patch}" for patch in range(N + 5)], dtype=object)
        barcodes[slide.patch] = slide.barcode
        file["barcode"] = barcodes
        file.attrs["pretrained"] = True
    return path


def scores_by_svd(values):
    """Principal component scores by the definition: the centred data on the right singular vectors."""
    centred = values - values.mean(axis=0)
    left, length, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, : baselines.COMPONENTS] * length[: baselines.COMPONENTS]


def same_up_to_sign(found, expected):
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_expression_and_image_are_their_principal_components(slide, features):
    genes = slide.expression.toarray().astype(float)
    expression = baselines.baseline("Expression", slide, 3)
    same_up_to_sign(expression.embedding, scores_by_svd(genes))
    with h5py.File(features) as file:
        of_spots = np.stack([file["embedding"][row] for row in slide.patch]).astype(float)
    image = baselines.baseline("Image", slide, 3, features)
    same_up_to_sign(image.embedding, scores_by_svd(of_spots))
    assert (expression.pretrained, image.pretrained) == (None, True)
    assert expression.barcode.tolist() == slide.barcode.tolist()


def test_signs_do_not_depend_on_the_order_of_the_spots(slide):
    genes = slide.expression.toarray().astype(float)
    turned = np.random.default_rng(2).permutation(N)
    found, again = baselines.components(genes), baselines.components(genes[turned])
    np.testing.assert_allclose(again, found[turned], atol=1e-9)
    loadings = PCA(baselines.COMPONENTS, svd_solver="full").fit(genes).components_
    assert (loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)] > 0).all()


def test_only_the_genes_of_highest_variance_enter(slide, monkeypatch):
    monkeypatch.setattr(baselines, "VARIABLE_GENES", 7)
    genes = slide.expression.toarray().astype(float)
    chosen = sorted(sorted(range(GENES), key=lambda gene: -genes[:, gene].var())[:7])
    np.testing.assert_allclose(baselines.variable_genes(slide), genes[:, chosen])
    assert baselines.baseline("Expression", slide, 0).embedding.shape == (N, 7)


def test_few_spots_have_few_components():
    assert baselines.components(np.random.default_rng(3).normal(size=(6, 40))).shape == (6, 5)


@pytest.mark.parametrize(("array", "reach", "inside"), [(square, 1.5, 8), (hexagonal, 1.1, 6)])
def test_smoothing_averages_each_spot_with_those_around_it(array, reach, inside):
    rng = np.random.default_rng(4)
    spatial, values = array(9), rng.normal(size=(81, 3))
    kept = rng.random(81) < 0.85  # holes in the tissue
    for places in (np.arange(81), np.flatnonzero(kept)):
        moved = 150 * (spatial[places] + rng.uniform(-0.04, 0.04, (len(places), 2)))
        around = neighbours(spatial[places], reach)
        expected = [values[[spot, *near]].mean(axis=0) for spot, near in enumerate(around)]
        np.testing.assert_allclose(baselines.smoothed(values[: len(places)], moved), expected)
        assert max(map(len, around)) == inside


def test_the_smoothed_space_is_that_of_the_smoothed_genes(slide):
    smooth = baselines.smoothed(slide.expression.toarray().astype(float), slide.spatial)
    same_up_to_sign(baselines.baseline("SmoothedExpression", slide, 0).embedding, scores_by_svd(smooth))


def test_the_halves_of_a_concatenation_weigh_the_same_whatever_their_unit(slide, features):
    joint = baselines.baseline("Concatenation", slide, 0, features)
    assert joint.embedding.shape[1] == 2 * baselines.COMPONENTS
    image, expression = np.split(joint.embedding.astype(float), 2, axis=1)
    for half, alone in ((image, "Image"), (expression, "Expression")):
        assert half.var(axis=0).sum() == pytest.approx(1, abs=1e-5)
        alone = baselines.baseline(alone, slide, 0, features).embedding.astype(float)
        np.testing.assert_allclose(half, alone / np.sqrt(alone.var(axis=0).sum()), atol=1e-5)
    scaled = baselines.concatenated(1000 * image + 7, expression)
    np.testing.assert_allclose(scaled, baselines.concatenated(image, expression), atol=1e-9)


def test_a_baseline_does_not_depend_on_the_seed(slide, features):
    for name in BASELINE_SPACES:
        one, other = (baselines.baseline(name, slide, seed, features) for seed in (1, 2))
        assert (one.embedding == other.embedding).all()
        assert (one.name, one.seed, other.seed) == (name, 1, 2)


def test_without_images_every_spot_counts_and_none_has_a_patch(slide):
    import pandas as pd
    from anndata import AnnData

    obs = pd.DataFrame({"total_counts": slide.total_counts}, index=slide.barcode)
    lognorm = AnnData(slide.expression, obs=obs, var=pd.DataFrame(index=slide.genes), obsm={"spatial": slide.spatial})
    found = baselines.slide_spots(lognorm, None)
    assert found.barcode.tolist() == slide.barcode.tolist()
    assert (found.patch == -1).all()
    same = [baselines.baseline("SmoothedExpression", one, 0).embedding for one in (found, slide)]
    assert (same[0] == same[1]).all()


@pytest.mark.parametrize(("halves", "pretrained"), [(None, None), ((2, 3), False)])
def test_a_space_comes_back_as_it_was_written(tmp_path, halves, pretrained):
    embedding = np.random.default_rng(5).normal(size=(4, 5)).astype(np.float32)
    space = Space(embedding, np.array(["ä", "b", "c", "d"], dtype=object), "MicNet", 2, halves, pretrained)
    write_space(tmp_path / "space.h5", space)
    found = read_space(tmp_path / "space.h5")
    assert (found.embedding == embedding).all()
    assert found.embedding.dtype == np.float32
    assert found.barcode.tolist() == space.barcode.tolist()
    assert (found.name, found.seed, found.halves, found.pretrained) == ("MicNet", 2, halves, pretrained)


def test_a_space_with_spots_that_are_not_finite_is_refused(tmp_path):
    embedding = np.ones((4, 2))
    embedding[[1, 3], 0] = np.nan, np.inf
    write_space(tmp_path / "space.h5", Space(embedding, np.array(list("abcd"), dtype=object), "MicNet", 0))
    with pytest.raises(InputError, match=r"space.h5: embedding: found 2 of 4 spots not finite, first 'b'"):
        read_space(tmp_path / "space.h5")


def test_the_parts_of_a_space_are_itself_and_the_halves_that_a_model_made():
    space = Space(np.arange(10.0).reshape(2, 5), np.array(["a", "b"], dtype=object), "M", 4, (2, 3), True)
    whole, image, expression = space.parts()
    assert whole is space
    assert [image.name, expression.name] == ["M (image half)", "M (expression half)"]
    np.testing.assert_array_equal(image.embedding, [[0, 1], [5, 6]])
    np.testing.assert_array_equal(expression.embedding, [[2, 3, 4], [7, 8, 9]])
    assert {(part.seed, part.pretrained, *part.barcode) for part in space.parts()} == {(4, True, "a", "b")}
    assert [len(part.parts()) for part in (image, expression, replace(space, halves=None))] == [1, 1, 1]
