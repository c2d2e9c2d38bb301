"""Claims about the spaces that need no training."""

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from arrays import hexagonal, neighbours, square
from spotwise.constants import BASELINE_SPACES
from spotwise.data.folds import SlideSpots
from spotwise.structure import baseline_spaces

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
        file.attrs["pretrained"], file.attrs["encoder"] = True, "imagenet-small"
    return path


def scores_by_svd(values):
    """Principal component scores by the definition: the centred data on the right singular vectors."""
    centred = values - values.mean(axis=0)
    left, length, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, : baseline_spaces.COMPONENTS] * length[: baseline_spaces.COMPONENTS]


def same_up_to_sign(found, expected):
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_expression_and_image_are_their_principal_components(slide, features):
    genes = slide.expression.toarray().astype(float)
    expression = baseline_spaces.baseline_space("Expression", slide, 3)
    same_up_to_sign(expression.embedding, scores_by_svd(genes))
    with h5py.File(features) as file:
        of_spots = np.stack([file["embedding"][row] for row in slide.patch]).astype(float)
    image = baseline_spaces.baseline_space("Image", slide, 3, features)
    same_up_to_sign(image.embedding, scores_by_svd(of_spots))
    assert (expression.pretrained, image.pretrained) == (None, True)
    assert (expression.encoder, image.encoder) == (None, "imagenet-small")
    assert expression.barcode.tolist() == slide.barcode.tolist()


def test_signs_do_not_depend_on_the_order_of_the_spots(slide):
    genes = slide.expression.toarray().astype(float)
    turned = np.random.default_rng(2).permutation(N)
    found, again = baseline_spaces.components(genes), baseline_spaces.components(genes[turned])
    np.testing.assert_allclose(again, found[turned], atol=1e-9)
    loadings = PCA(baseline_spaces.COMPONENTS, svd_solver="full").fit(genes).components_
    assert (loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)] > 0).all()


def test_only_the_genes_of_highest_variance_enter(slide, monkeypatch):
    monkeypatch.setattr(baseline_spaces, "VARIABLE_GENES", 7)
    genes = slide.expression.toarray().astype(float)
    chosen = sorted(sorted(range(GENES), key=lambda gene: -genes[:, gene].var())[:7])
    np.testing.assert_allclose(baseline_spaces.most_variable_expression(slide), genes[:, chosen])
    assert baseline_spaces.baseline_space("Expression", slide, 0).embedding.shape == (N, 7)


def test_few_spots_have_few_components():
    assert baseline_spaces.components(np.random.default_rng(3).normal(size=(6, 40))).shape == (6, 5)


@pytest.mark.parametrize(("array", "reach", "inside"), [(square, 1.5, 8), (hexagonal, 1.1, 6)])
def test_smoothing_averages_each_spot_with_those_around_it(array, reach, inside):
    rng = np.random.default_rng(4)
    spatial, values = array(9), rng.normal(size=(81, 3))
    kept = rng.random(81) < 0.85  # holes in the tissue
    for places in (np.arange(81), np.flatnonzero(kept)):
        moved = 150 * (spatial[places] + rng.uniform(-0.04, 0.04, (len(places), 2)))
        around = neighbours(spatial[places], reach)
        expected = [values[[spot, *near]].mean(axis=0) for spot, near in enumerate(around)]
        np.testing.assert_allclose(baseline_spaces.smooth(values[: len(places)], moved), expected)
        assert max(map(len, around)) == inside


def test_the_smoothed_space_is_that_of_the_smoothed_genes(slide):
    smooth = baseline_spaces.smooth(slide.expression.toarray().astype(float), slide.spatial)
    same_up_to_sign(baseline_spaces.baseline_space("SmoothedExpression", slide, 0).embedding, scores_by_svd(smooth))


def test_the_halves_of_a_concatenation_have_the_same_weight_in_any_unit(slide, features):
    joint = baseline_spaces.baseline_space("Concatenation", slide, 0, features)
    assert joint.embedding.shape[1] == 2 * baseline_spaces.COMPONENTS
    image, expression = np.split(joint.embedding.astype(float), 2, axis=1)
    for half, alone in ((image, "Image"), (expression, "Expression")):
        assert half.var(axis=0).sum() == pytest.approx(1, abs=1e-5)
        alone = baseline_spaces.baseline_space(alone, slide, 0, features).embedding.astype(float)
        np.testing.assert_allclose(half, alone / np.sqrt(alone.var(axis=0).sum()), atol=1e-5)
    scaled = baseline_spaces.concatenate(1000 * image + 7, expression)
    np.testing.assert_allclose(scaled, baseline_spaces.concatenate(image, expression), atol=1e-9)


def test_a_baseline_does_not_depend_on_the_seed(slide, features):
    for name in BASELINE_SPACES:
        one, other = (baseline_spaces.baseline_space(name, slide, seed, features) for seed in (1, 2))
        assert (one.embedding == other.embedding).all()
        assert (one.name, one.seed, other.seed) == (name, 1, 2)


def test_without_images_every_spot_counts_and_none_has_a_patch(slide):
    obs = pd.DataFrame({"total_counts": slide.total_counts}, index=slide.barcode)
    lognorm = AnnData(slide.expression, obs=obs, var=pd.DataFrame(index=slide.genes), obsm={"spatial": slide.spatial})
    found = baseline_spaces.slide_spots(lognorm, None)
    assert found.barcode.tolist() == slide.barcode.tolist()
    assert (found.patch == -1).all()
    same = [baseline_spaces.baseline_space("SmoothedExpression", one, 0).embedding for one in (found, slide)]
    assert (same[0] == same[1]).all()
