"""Claims about retrieval in frozen image features."""

import numpy as np
import pytest

from spotwise.data.features import EmbeddedSpots
from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.knn import KNNImage, KNNImageOptions

N, Q, D, G = 60, 25, 8, 5
K = 7


@pytest.fixture
def world():
    """Features of N training and Q tested spots on very different scales, and the training spots' expression."""
    rng = np.random.default_rng(0)
    scale, centre = 10.0 ** rng.uniform(-2, 2, D), rng.normal(size=D) * 50
    features, queries = (rng.normal(size=(n, D)) * scale + centre for n in (N, Q))
    expression = rng.gamma(2, size=(N, G)).astype(np.float32)
    return features.astype(np.float32), expression, queries.astype(np.float32)


def predicted(features, expression, queries, k=K):
    method = KNNImage(KNNImageOptions(k=k))
    slide = np.full(len(features), "A")
    weights, report = method.fit(EmbeddedSpots(features, slide, slide, np.zeros((len(features), 2)), slide), expression)
    return method.predict(weights, EmbeddedSpots(queries, None, None, None, None), expression), weights, report


def test_a_prediction_equals_brute_force(world):
    features, expression, queries = world
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    found, _, report = predicted(*world)
    assert report == {"k": K, "k_used": K}
    assert found.dtype == np.float32
    for query, prediction in zip((queries - mean) / spread, found, strict=True):
        cosines = [row @ query / np.linalg.norm(row) / np.linalg.norm(query) for row in (features - mean) / spread]
        nearest = sorted(range(N), key=lambda spot: -cosines[spot])[:K]
        np.testing.assert_allclose(prediction, expression[nearest].mean(axis=0), rtol=1e-5)


def test_a_training_spot_is_its_own_nearest_neighbour(world):
    features, expression, _ = world
    np.testing.assert_allclose(predicted(features, expression, features, k=1)[0], expression, rtol=1e-6)


@pytest.mark.parametrize("k", [N, N + 1, 10 * N])
def test_a_bank_smaller_than_k_is_used_whole(world, k):
    features, expression, queries = world
    found, _, report = predicted(features, expression, queries, k)
    assert report == {"k": k, "k_used": N}
    np.testing.assert_allclose(found, np.tile(expression.mean(axis=0), (Q, 1)), rtol=1e-5)


def test_a_tested_slide_decides_neither_scale_nor_centre(world):
    """Each spot is predicted as if it were alone."""
    features, expression, queries = world
    found = predicted(features, expression, queries)[0]
    alone = np.concatenate([predicted(features, expression, query[None])[0] for query in queries])
    np.testing.assert_allclose(found, alone, rtol=1e-6)


def test_a_feature_constant_in_training_says_nothing(world):
    features, expression, queries = world
    wider = np.column_stack([features, np.full(N, 1234.567, dtype=np.float32)])
    unseen = np.column_stack([queries, np.random.default_rng(1).normal(size=Q).astype(np.float32)])
    np.testing.assert_array_equal(predicted(wider, expression, unseen)[0], predicted(*world)[0])


def test_expression_is_in_no_weight(world):
    features, expression, queries = world
    weights = predicted(*world)[1]
    assert {name: value.shape for name, value in weights.items()} == {"bank": (N, D), "mean": (D,), "scale": (D,)}
    other = predicted(features, expression + 1, queries)[1]
    for name, value in weights.items():
        np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize("k", [0, -5])
def test_fewer_than_one_neighbour_is_refused(k):
    with pytest.raises(InputError, match="KNNImage: k: found"):
        registry.options("KNNImage", {"k": k})
