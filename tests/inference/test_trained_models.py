"""Claims about trained models: loaded from their folder alone, as they were trained."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import savedmodel
import spotwise
from savedmodel import RETRIEVAL
from spotwise.data.features import EmbeddedSpots
from spotwise.data.folds import write_fold
from spotwise.errors import InputError, SetupError
from spotwise.inference import slide_prediction
from spotwise.inference.trained_models import load_model
from spotwise.models.batch import Batch
from spotwise.models.registry import build
from spotwise.models.sizes import Sizes
from spotwise.training.frozen import fit

NETWORKS = RETRIEVAL | {
    "STNet": {"pretrained": "no", "image_size": 32, "growth_rate": 4, "blocks": "1-1"},
    "MicNet": {"encoder": "test_resnet", "pretrained": "no", "image_size": 32, "embedding_dim": 4, "gene_hidden": "8"},
}


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_loaded_network_computes_what_the_trained_one_did(fold, tmp_path, name):
    torch.manual_seed(0)
    network = build(name, Sizes.of(fold), NETWORKS[name]).eval()
    folder = savedmodel.save(tmp_path / "model", name, NETWORKS[name], network, fold)
    torch.manual_seed(99)
    back = load_model(folder).method
    assert not back.training
    images, expression = torch.randn(4, 3, 32, 32), torch.randn(4, len(fold.genes))
    with torch.inference_mode():
        if name == "STNet":
            assert torch.equal(back.predict(Batch(images, None)), network.predict(Batch(images, None)))
        else:
            assert torch.equal(back.embed_images(images), network.embed_images(images))
            assert torch.equal(back.embed_expression(expression), network.embed_expression(expression))


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("pretrained", ["required", "if_available"])
def test_loading_asks_for_no_published_weights(fold, tmp_path, pretrained):
    settings = {"encoder": "resnet10t", "embedding_dim": 16}
    network = build("BLEEP", Sizes.of(fold), {**settings, "pretrained": "no"})
    given = {**settings, "pretrained": pretrained}
    folder = savedmodel.save(tmp_path / "model", "BLEEP", given, network, fold, pretrained=True)
    loaded = load_model(folder)
    assert (loaded.description.encoder, loaded.description.pretrained) == ("resnet10t", True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.method.embed_images(images), network.eval().embed_images(images))


def test_a_frozen_method_is_loaded_with_its_weights(fold, embedded, tmp_path):
    write_fold(tmp_path / "fold.h5", fold)
    fit(
        tmp_path / "fold.h5",
        {slide: embedded[slide] for slide in "AB"},
        "Ridge",
        {"n_alphas": 5},
        1,
        tmp_path / "model",
    )
    loaded = load_model(tmp_path / "model")
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    by_hand = features @ loaded.weights["weights"] + loaded.weights["bias"]
    spots = EmbeddedSpots(features, None, None, None, None)
    np.testing.assert_allclose(loaded.method.predict(loaded.weights, spots, None), by_hand, rtol=1e-6)
    assert loaded.description.kind == "frozen"
    assert loaded.description.encoder == "made up"
    assert loaded.method.options.n_alphas == 5


def test_features_of_other_encoder_weights_are_refused(fold, embedded, tmp_path):
    write_fold(tmp_path / "fold.h5", fold)
    fit(tmp_path / "fold.h5", {slide: embedded[slide] for slide in "AB"}, "KNNImage", {}, 1, tmp_path / "model")
    description = json.loads((tmp_path / "model/model.json").read_text())
    (tmp_path / "model/model.json").write_text(json.dumps(description | {"pretrained": False}))
    with pytest.raises(SetupError, match="other encoder weights than the training slides"):
        load_model(tmp_path / "model").check_encoder({"C": embedded["C"]})


def test_a_folder_without_a_description_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"model\.json: file: found none, expected the folder of a trained model"):
        load_model(tmp_path)


def complaint(folder):
    with pytest.raises(InputError, match=r"weights\.safetensors: file: found ") as refused:
        load_model(folder)
    message = str(refused.value)
    assert message.endswith(f"train the model again: delete {folder}")
    return message


@pytest.mark.usefixtures("no_hub")
def test_weights_that_are_missing_damaged_or_of_another_network_are_refused(fold, tmp_path):
    folders = {}
    for name in ("CMRCNet", "STNet"):
        network = build(name, Sizes.of(fold), NETWORKS[name])
        folders[name] = savedmodel.save(tmp_path / name, name, NETWORKS[name], network, fold)
    weights, whole = folders["CMRCNet"] / "weights.safetensors", (folders["STNet"] / "weights.safetensors").read_bytes()
    weights.write_bytes(whole)
    assert "found weights of another method or panel" in complaint(weights.parent)
    weights.write_bytes(whole[:1000])
    assert "found a damaged file" in complaint(weights.parent)
    weights.unlink()
    assert "found none" in complaint(weights.parent)


def test_arrays_of_another_frozen_method_are_refused(fold, embedded, tmp_path):
    write_fold(tmp_path / "fold.h5", fold)
    for name in ("Ridge", "KNNImage"):
        fit(tmp_path / "fold.h5", {slide: embedded[slide] for slide in "AB"}, name, {}, 1, tmp_path / name)
    (tmp_path / "KNNImage/weights.safetensors").rename(tmp_path / "Ridge/weights.safetensors")
    assert "found the arrays bank, mean, scale" in complaint(tmp_path / "Ridge")


def test_the_package_offers_it_without_importing_torch():
    assert spotwise.load_model is slide_prediction.load_model
    code = "import sys, spotwise; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        spotwise.load_models  # noqa: B018
