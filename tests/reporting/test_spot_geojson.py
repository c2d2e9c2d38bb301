"""Claims about the GeoJSON of spots that QuPath opens."""

import json

import numpy as np
import pytest
import shapely
from geojson_pydantic import FeatureCollection

from predictedslide import PITCH_PX, prediction
from spotwise.reporting import spot_geojson
from spotwise.reporting.spot_geojson import write_spots


@pytest.fixture
def written(tmp_path):
    def write(predictions, genes):
        size = write_spots(predictions, genes, tmp_path / "spots.geojson")
        text = (tmp_path / "spots.geojson").read_text(encoding="utf-8")
        assert size == len(text.encode())
        return json.loads(text)["features"], text

    return write


def test_the_file_is_valid_geojson_of_closed_anticlockwise_polygons(written):
    _, text = written({"Ridge": prediction()}, {"Ridge": ["EPCAM"]})
    collection = FeatureCollection.model_validate_json(text)
    polygons = [shapely.geometry.shape(feature.geometry.model_dump()) for feature in collection.features]
    assert all(polygon.is_valid and polygon.exterior.is_ccw for polygon in polygons)


def test_a_spot_is_a_detection_as_wide_as_spots_lie_apart(written):
    spots = prediction()
    features, _ = written({"Ridge": spots}, {"Ridge": ["EPCAM"]})
    assert [feature["properties"]["name"] for feature in features] == spots.obs_names.tolist()
    assert {feature["properties"]["objectType"] for feature in features} == {"detection"}
    outline = shapely.geometry.shape(features[7]["geometry"])
    np.testing.assert_allclose(outline.centroid.coords[0], spots.obsm["spatial"][7], atol=0.1)
    left, top, right, bottom = outline.bounds
    assert right - left == pytest.approx(PITCH_PX, abs=0.2)
    assert bottom - top == pytest.approx(PITCH_PX, abs=0.2)


def test_measurements_are_the_chosen_genes_and_the_similarity(written):
    spots = prediction()
    features, _ = written({"Ridge": spots}, {"Ridge": ["KRT8", "EPCAM"]})
    found = features[5]["properties"]["measurements"]
    assert list(found) == ["similarity", "KRT8", "EPCAM"]
    expected = [spots.obs["similarity"].iloc[5], spots.X[5, 2], spots.X[5, 0]]
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-4)


def test_genes_of_several_models_bear_the_models_names(written):
    features, _ = written({"Ridge": prediction(), "KNN": prediction()}, {"Ridge": ["EPCAM"], "KNN": ["MGP"]})
    names = list(features[0]["properties"]["measurements"])
    assert names == ["Ridge: similarity", "Ridge: EPCAM", "KNN: similarity", "KNN: MGP"]


def test_unlike_spots_have_a_class_of_their_own(written):
    features, _ = written({"Ridge": prediction()}, {"Ridge": ["EPCAM"]})
    classed = [feature["properties"].get("classification", {}).get("name") for feature in features]
    assert classed[:3] == ["Unlike the training spots", "Unlike the training spots", None]


def test_ids_differ_between_spots_and_stay_between_runs(written):
    features, text = written({"Ridge": prediction()}, {"Ridge": ["EPCAM"]})
    assert len({feature["id"] for feature in features}) == len(features)
    assert written({"Ridge": prediction()}, {"Ridge": ["EPCAM"]})[1] == text


def test_many_genes_are_cut_to_the_first(written, monkeypatch):
    monkeypatch.setattr(spot_geojson, "MOST_GENES", 2)
    features, _ = written({"Ridge": prediction()}, {"Ridge": ["KRT8", "EPCAM", "MGP"]})
    assert list(features[0]["properties"]["measurements"]) == ["similarity", "KRT8", "EPCAM"]
