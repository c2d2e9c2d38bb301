"""Claims about embeddings: of the right rows, in their order, by the model as it was trained."""

import h5py
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_model

from spotwise.constants import BARCODES, IMAGES, TEST
from spotwise.data.folds import write_fold
from spotwise.errors import InputError
from spotwise.inference import embeddings
from spotwise.inference.embeddings import build_bank, embed_patches
from spotwise.inference.retrieval import read_embeddings
from spotwise.models import encoders, pathology
from spotwise.models.base import Sizes
from spotwise.models.pathology import ClassTokenAndPatchMean, Published
from spotwise.models.registry import build, restore
from spotwise.training.dataset import Spots, resize

VIT = {"image_size": 32, "patch_size": 16, "encoder_dim": 16, "encoder_depth": 1, "encoder_heads": 2}
VIT |= {"embedding_dim": 16}
METHODS = {
    "CMRCNet": {**VIT, "gene_tokens": 2, "attention_heads": 2, "fusion_heads": 2},
    "BLEEP": {**VIT, "encoder": "vit", "pretrained": "no"},
}
CPU = torch.device("cpu")


@pytest.fixture(params=METHODS)
def trained(request, tmp_path, fold):
    """A method that was moved away from its initialisation, and its weights on disk."""
    torch.manual_seed(0)
    model = build(request.param, Sizes.of(fold), METHODS[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, str(tmp_path / "weights.safetensors"))
    return request.param, model.eval(), tmp_path / "weights.safetensors"


def banked(trained, fold, files, folder):
    name, _, weights = trained
    write_fold(folder / "fold.h5", fold)
    tested = {slide: files[slide] for slide in ("C", "D")}  # patches of training slides are not needed
    bank, queries = folder / "bank.safetensors", folder / "queries.safetensors"
    build_bank(folder / "fold.h5", tested, name, METHODS[name], weights, "cpu", 1, bank, queries)
    return read_embeddings(bank), read_embeddings(queries)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("at_once", [7, 128])
def test_the_bank_is_training_expression_and_the_queries_are_test_patches(
    trained, fold, patch_files, tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr(embeddings, "AT_ONCE", at_once)
    bank, queries = banked(trained, fold, patch_files, tmp_path)
    model = trained[1]
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


def test_the_bank_holds_no_tested_spot_and_every_row_has_length_1(trained, fold, patch_files, tmp_path):
    bank, queries = banked(trained, fold, patch_files, tmp_path)
    assert not set(fold.barcode[bank.row]) & set(fold.barcode[fold.role == TEST])
    assert set(fold.sample[bank.row]) == {"A", "B"}
    assert set(fold.sample[queries.row]) == {"C", "D"}
    for embeddings in (bank, queries):
        assert embeddings.unit.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings.unit, axis=1), 1, atol=1e-6)


def test_a_restored_method_embeds_as_the_trained_one(trained, fold):
    name, model, weights = trained
    torch.manual_seed(99)
    back = restore(name, Sizes.of(fold), METHODS[name], weights)
    assert not back.training
    images, expression = torch.randn(4, 3, 32, 32), torch.randn(4, len(fold.genes))
    with torch.inference_mode():
        assert torch.equal(back.embed_images(images), model.embed_images(images))
        assert torch.equal(back.embed_expression(expression), model.embed_expression(expression))


@pytest.fixture
def _no_hub(monkeypatch):
    """Whoever asks for published weights is caught."""
    create = timm.create_model

    def without_weights(name, pretrained=False, **settings):
        assert not pretrained, "published weights were asked for"
        return create(name, pretrained=False, **settings)

    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(encoders.timm, "create_model", without_weights)
    monkeypatch.setattr(encoders.huggingface_hub, "get_session", refuse)


@pytest.mark.usefixtures("_no_hub")
@pytest.mark.parametrize("pretrained", ["required", "when_reachable"])
def test_restoring_asks_for_no_published_weights(tmp_path, pretrained):
    settings = {"encoder": "resnet10t", "embedding_dim": 16}
    model = build("BLEEP", Sizes(5), {**settings, "pretrained": "no"})
    save_model(model, str(tmp_path / "weights.safetensors"))
    back = restore("BLEEP", Sizes(5), {**settings, "pretrained": pretrained}, tmp_path / "weights.safetensors")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(back.embed_images(images), model.eval().embed_images(images))


@pytest.mark.usefixtures("_no_hub")
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


@pytest.fixture
def small(monkeypatch):
    """A pathology encoder that takes images of 24 px only, with a normalisation of its own."""
    sizes = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "reg_tokens": 4}
    encoder = Published("lab/small", sizes, ClassTokenAndPatchMean, px=24, mean=(0.7, 0.6, 0.5), std=(0.1, 0.2, 0.3))
    monkeypatch.setattr(pathology, "PATHOLOGY", {"Small": encoder})
    torch.manual_seed(7)
    return encoder.build().eval()


@pytest.mark.usefixtures("_no_hub")
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
