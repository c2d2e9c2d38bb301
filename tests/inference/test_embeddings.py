"""Claims about embeddings: of the right rows, in their order, by the model as it was trained."""

import h5py
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_model

import savedmodel
from savedmodel import RETRIEVAL
from spotwise.constants import BARCODES, IMAGES, TEST
from spotwise.errors import InputError
from spotwise.inference import embeddings
from spotwise.inference.embeddings import embed_fold, embed_patches
from spotwise.models import pathology
from spotwise.models.images import resize
from spotwise.models.pathology import ClassTokenAndPatchMean, Published
from spotwise.models.registry import build
from spotwise.models.sizes import Sizes
from spotwise.training.dataset import Spots

CPU = torch.device("cpu")


@pytest.fixture(params=RETRIEVAL)
def trained(request, tmp_path, fold):
    """Return a method away from its initialisation, and its folder."""
    torch.manual_seed(0)
    model = build(request.param, Sizes.of(fold), RETRIEVAL[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), savedmodel.save(tmp_path / "model", request.param, RETRIEVAL[request.param], model, fold)


def banked(trained, fold, files):
    return embed_fold(trained[1], fold, {slide: files[slide] for slide in ("C", "D")}, "cpu", 1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("at_once", [7, 128])
def test_the_bank_is_training_expression_and_the_queries_are_test_patches(
    trained, fold, patch_files, monkeypatch, at_once
):
    monkeypatch.setattr(embeddings, "AT_ONCE", at_once)
    bank, queries = banked(trained, fold, patch_files)
    model = trained[0]
    rows = fold.rows(TEST)
    with torch.inference_mode():
        expression = model.embed_expression(torch.from_numpy(fold.expression[fold.bank])).numpy()
        patches = Spots(fold, rows, patch_files, CPU).batch(torch.arange(len(rows))).images
        images = np.concatenate([model.embed_images(patch[None]).numpy() for patch in patches])
    np.testing.assert_array_equal(bank.row, fold.bank)
    np.testing.assert_array_equal(queries.row, rows)
    np.testing.assert_allclose(bank.unit, unit(expression), atol=1e-5)
    np.testing.assert_allclose(queries.unit, unit(images), atol=1e-5)
    np.testing.assert_allclose(bank.length, np.linalg.norm(expression, axis=1), rtol=1e-5)
    assert len({row.tobytes() for row in queries.unit.round(3)}) == len(rows)


def test_the_bank_holds_no_tested_spot_and_every_row_has_length_1(trained, fold, patch_files):
    bank, queries = banked(trained, fold, patch_files)
    assert not set(fold.barcode[bank.row]) & set(fold.barcode[fold.role == TEST])
    assert set(fold.sample[bank.row]) == {"A", "B"}
    assert set(fold.sample[queries.row]) == {"C", "D"}
    for embedded in (bank, queries):
        assert embedded.unit.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embedded.unit, axis=1), 1, atol=1e-6)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("at_once", [5, 128])
@pytest.mark.parametrize(
    ("encoder", "mean", "std"),
    [
        ("resnet10t", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("tf_mobilenetv3_small_minimal_100", 0.5, 0.5),  # trained on values from -1 to 1
    ],
)
def test_frozen_features_equal_a_direct_forward_in_the_order_of_the_patches(
    patch_files, tmp_path, monkeypatch, encoder, mean, std, at_once
):
    monkeypatch.setattr(embeddings, "AT_ONCE", at_once)
    embed_patches(patch_files["A"], encoder, "no", "cpu", 1, tmp_path / "A-embedded.h5")
    torch.manual_seed(0)
    model = timm.create_model(encoder, num_classes=0).eval()
    with h5py.File(patch_files["A"]) as stored, h5py.File(tmp_path / "A-embedded.h5") as file:
        images = np.float32((stored[IMAGES][:] / 255 - mean) / std).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            direct = torch.cat([model(torch.from_numpy(image[None])) for image in images]).numpy()
        np.testing.assert_allclose(file["embedding"][:], direct, rtol=1e-4, atol=1e-4 * direct.std())
        assert file["embedding"].dtype == np.float32
        assert file[BARCODES].asstr()[:].ravel().tolist() == [f"A-patch{row}" for row in range(len(images))]
        assert (file.attrs["encoder"], bool(file.attrs["pretrained"])) == (encoder, False)
        assert not file.attrs["fell_back"]  # random weights were asked for


@pytest.fixture
def small(monkeypatch):
    """Register a pathology encoder for images of 24 px only, with a normalisation of its own."""
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "reg_tokens": 4}
    encoder = Published("lab/small", sizes, ClassTokenAndPatchMean, px=24, mean=(0.7, 0.6, 0.5), std=(0.1, 0.2, 0.3))
    monkeypatch.setattr(pathology, "PATHOLOGY", {"Small": encoder})
    torch.manual_seed(7)
    return encoder.build().eval()


@pytest.mark.usefixtures("no_hub")
def test_patches_are_shown_in_the_size_and_colours_that_the_encoder_knows(small, patch_files, tmp_path):
    """By weights from a file, which are the encoder's published ones as far as the file says."""
    save_model(small, str(tmp_path / "small.safetensors"))
    output = tmp_path / "A-embedded.h5"
    embed_patches(patch_files["A"], "Small", "required", "cpu", 1, output, str(tmp_path / "small.safetensors"))
    with h5py.File(patch_files["A"]) as stored, h5py.File(output) as file:
        images = (resize(stored[IMAGES][:], 24) / 255 - [0.7, 0.6, 0.5]) / [0.1, 0.2, 0.3]
        with torch.inference_mode():
            direct = small(torch.from_numpy(np.float32(images).transpose(0, 3, 1, 2)))
        assert file["embedding"].shape == (len(images), 32)
        np.testing.assert_allclose(file["embedding"][:], direct, rtol=1e-4, atol=1e-4)
        assert (file.attrs["encoder"], bool(file.attrs["pretrained"])) == ("Small", True)


def test_features_that_the_encoder_does_not_pool_are_refused(small, patch_files, tmp_path, monkeypatch):
    small.forward_head = lambda tokens: tokens
    monkeypatch.setattr(embeddings, "frozen_encoder", lambda *_: (small, False))
    with pytest.raises(InputError, match=r"found features \(37, 14, 16\), expected an encoder that pools its own"):
        embed_patches(patch_files["A"], "hf-hub:lab/tokens", "no", "cpu", 1, tmp_path / "A-embedded.h5")
    assert not (tmp_path / "A-embedded.h5").exists()
