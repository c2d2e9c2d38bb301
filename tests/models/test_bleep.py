"""BLEEP: its parameters, its loss, its encoders, and what happens to pretrained weights without a network."""

from __future__ import annotations

import logging
import time

import huggingface_hub
import pytest
import timm
import torch
from torch import nn

from spotwise.errors import InputError, SetupError
from spotwise.models import pretrained_weights, registry
from spotwise.models.batch import Batch
from spotwise.models.bleep import BLEEP, BLEEPOptions
from spotwise.models.cmrcnet import CMRCNet, CMRCNetOptions

SMALL_VIT = {"encoder": "vit", "image_size": 64, "encoder_dim": 32, "encoder_depth": 2, "encoder_heads": 4}
N_GENES = 12


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def unbuilt(n_genes=1000, **options):
    with torch.device("meta"):
        return BLEEP(n_genes, BLEEPOptions(pretrained="no", **options))


def small(**options):
    torch.manual_seed(0)
    return BLEEP(N_GENES, BLEEPOptions(**SMALL_VIT, embedding_dim=32, **options))


def small_batch(spots=8, size=64):
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.randn(spots, 3, size, size, generator=generator), 3 * torch.rand(spots, N_GENES, generator=generator)
    )


def test_parameters_with_resnet50_are_the_released_ones():
    model = unbuilt()
    assert n_parameters(model) == 24_421_440
    parts = (model.image_encoder, model.image_projection, model.gene_projection)
    assert [n_parameters(part) for part in parts] == [23_508_032, 590_848, 322_560]


def test_parameters_with_timms_vit_are_the_released_ones():
    assert n_parameters(unbuilt(encoder="vit_base_patch32_224")) == 88_040_960


def test_vit_encoder_is_cmrcnets():
    theirs = unbuilt(encoder="vit").image_encoder
    with torch.device("meta"):
        ours = CMRCNet(1000, CMRCNetOptions()).image_encoder

    def shapes(module):
        return {name: parameter.shape for name, parameter in module.named_parameters()}

    assert shapes(theirs) == shapes(ours)


def test_vit_embeddings_equal_cmrcnets_with_the_same_weights():
    options = {name: value for name, value in SMALL_VIT.items() if name != "encoder"}
    cmrcnet, model = CMRCNet(N_GENES, CMRCNetOptions(**options, embedding_dim=32)), small()
    shared = {name: value for name, value in cmrcnet.state_dict().items() if name in model.state_dict()}
    model.load_state_dict(shared, strict=True)
    batch = small_batch()
    with torch.no_grad():
        torch.testing.assert_close(model.eval().embed_images(batch.images), cmrcnet.eval().embed_images(batch.images))


def test_contrastive_only_cmrcnet_is_bleep_with_its_encoder_under_a_logarithm():
    options = {name: value for name, value in SMALL_VIT.items() if name != "encoder"}
    torch.manual_seed(0)
    cmrcnet = CMRCNet(
        N_GENES, CMRCNetOptions(**options, embedding_dim=32, reconstruction="none", log="of_mean", temperature=0.5)
    )
    bleep = small(temperature=0.5, target_temperature="multiply")
    bleep.load_state_dict(cmrcnet.state_dict(), strict=True)
    with torch.no_grad():
        ours, theirs = (model.eval().loss(small_batch()) for model in (cmrcnet, bleep))
    assert set(ours) == set(theirs)
    torch.testing.assert_close(ours["total"], theirs["total"].log1p())


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_any_timm_encoder_fits_the_projection_head(encoder):
    model = BLEEP(N_GENES, BLEEPOptions(encoder=encoder, pretrained="no", embedding_dim=16)).eval()
    with torch.no_grad():
        assert model.embed_images(torch.randn(2, 3, 224, 224)).shape == (2, 16)
        assert model.embed_expression(torch.rand(2, N_GENES)).shape == (2, 16)


@pytest.mark.parametrize("encoder", ["resnet18", "vit"])
def test_images_of_another_size_are_requested_and_embedded(encoder):
    options = BLEEPOptions(**{**SMALL_VIT, "encoder": encoder, "image_size": 96}, pretrained="no", embedding_dim=16)
    assert options.context.image_px == 96
    with torch.no_grad():
        assert BLEEP(N_GENES, options).eval().embed_images(torch.randn(2, 3, 96, 96)).shape == (2, 16)


def test_timms_vit_averages_its_patch_tokens_without_the_class_token():
    encoder = BLEEP(N_GENES, BLEEPOptions(encoder="vit_tiny_patch16_224", pretrained="no")).image_encoder.eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        tokens = encoder.forward_features(images)
        torch.testing.assert_close(encoder(images), encoder.fc_norm(tokens[:, 1:].mean(dim=1)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.878608),
        ({"temperature": 0.5}, 0.568063),
        ({"temperature": 0.5, "target_temperature": "multiply"}, 1.376538),
    ],
)
def test_loss_equals_the_released_one(options, expected, monkeypatch):
    image = torch.tensor([[1, 0, 0.5, -0.5], [0, 1, -0.25, 0.75], [0.5, -0.5, 1, 0.25]])
    gene = torch.tensor([[0.8, 0.2, 0.4, -0.6], [-0.1, 0.9, 0.3, 0.5], [0.6, -0.4, 0.7, -0.2]])
    model = small(**options)
    monkeypatch.setattr(model, "embed_images", lambda _: image)
    monkeypatch.setattr(model, "embed_expression", lambda _: gene)
    terms = model.loss(small_batch())
    assert terms["total"].item() == pytest.approx(expected, abs=1e-6)
    assert terms["contrastive"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("encoder", ["vit", "resnet18"])
def test_every_parameter_is_trained(encoder):
    options = BLEEPOptions(**{**SMALL_VIT, "encoder": encoder}, pretrained="no", embedding_dim=32)
    model = BLEEP(N_GENES, options).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts residual branches at 0, behind which no gradient is felt
            nn.init.ones_(module.weight)
    model.loss(small_batch())["total"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_only_the_total_is_differentiable_and_a_mask_generator_is_accepted():
    terms = small().loss(small_batch(), torch.Generator().manual_seed(1))
    assert [name for name, value in terms.items() if value.requires_grad] == ["total"]
    assert set(terms) == {"total", "contrastive", "image_spread", "gene_spread"}


# Pretrained weights


class Encoder(nn.Module):
    """Stands for a timm model; says how it was made."""

    head_hidden_size = 4

    def __init__(self, pretrained):
        super().__init__()
        self.pretrained = pretrained


@pytest.fixture
def hub(monkeypatch):
    """Replace the hub by one that answers and has weights unless a test changes that."""

    class Hub:
        answers, has_weights = True, True
        requested_offline = None

        def head(self, url, timeout):
            if not self.answers:
                raise ConnectionError("no route")

        def create_model(self, name, pretrained, **_):
            if pretrained:
                self.requested_offline = huggingface_hub.constants.HF_HUB_OFFLINE
                if not self.has_weights:
                    raise FileNotFoundError("no such file\nin the cache")
            return Encoder(pretrained)

    hub = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: hub)
    monkeypatch.setattr(timm, "create_model", hub.create_model)
    return hub


@pytest.mark.parametrize("pretrained", ["if_available", "required"])
def test_pretrained_weights_are_used_if_available(hub, pretrained, caplog):
    model = BLEEP(N_GENES, BLEEPOptions(pretrained=pretrained))
    assert model.pretrained_loaded
    assert model.image_encoder.pretrained
    assert not hub.requested_offline
    assert not caplog.records


def test_random_weights_replace_unreachable_ones_with_one_line_of_warning(hub, caplog):
    hub.has_weights = False
    with caplog.at_level(logging.WARNING):
        model = BLEEP(N_GENES, BLEEPOptions(pretrained="if_available"))
    assert not model.pretrained_loaded
    assert not model.image_encoder.pretrained
    (message,) = caplog.messages
    assert "resnet50" in message
    assert "no such file in the cache" in message


def test_required_weights_that_cannot_be_had_stop_the_run(hub):
    hub.has_weights = False
    with pytest.raises(SetupError, match=r"no pretrained weights for resnet50 \(no such file in the cache\)"):
        BLEEP(N_GENES, BLEEPOptions(pretrained="required"))


def test_no_pretrained_weights_are_requested_when_not_wanted(hub):
    assert not BLEEP(N_GENES, BLEEPOptions(pretrained="no")).pretrained_loaded
    assert hub.requested_offline is None


def test_without_a_network_only_the_cache_is_read_and_the_setting_returns(hub):
    hub.answers = False
    assert BLEEP(N_GENES, BLEEPOptions()).pretrained_loaded
    assert hub.requested_offline
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_unreachable_hub_costs_seconds_not_a_minute(monkeypatch, tmp_path):
    """Behind a port that refuses, the hub's own client would retry for about 50 s."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pretrained_weights.offline_unless_reachable(), pytest.raises(OSError, match="cache"):
        timm.create_model("test_resnet", pretrained=True, cache_dir=tmp_path)
    assert time.monotonic() - started < pretrained_weights.PROBE_SECONDS


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size: found 0"),
        ({"pretrained": "maybe"}, "pretrained: found 'maybe', expected one of no, if_available, required"),
        ({"encoder": "vit", "pretrained": "required"}, "pretrained: found 'required', expected 'no'"),
        ({"encoder": "vit", "encoder_heads": 5}, r"encoder_heads: found 5, expected a divisor of encoder_dim \(768\)"),
        ({"projection_dropout": 1.0}, "projection_dropout: found 1.0"),
        ({"temperature": -1.0}, "temperature: found -1.0"),
        ({"target_temperature": "add"}, "target_temperature: found 'add', expected one of divide, multiply"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^BLEEP: {message}"):
        registry.options("BLEEP", options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnt50"}, "encoder: found 'resnt50', expected 'vit' or the name of a timm model"),
        ({"encoder": "resnet50.imagenet"}, "encoder: found 'resnet50.imagenet', expected 'vit' or the name of a timm"),
        ({"encoder": "vit_tiny_patch16_224", "image_size": 96}, "image_size: found 96, expected 224, the only size"),
        ({"encoder": "vit_tiny_patch16_224", "image_size": 256}, "image_size: found 256, expected 224, the only size"),
        ({"encoder": "vit_small_patch14_dinov2.lvd142m"}, "image_size: found 224, expected 518, the only size"),
    ],
)
def test_an_encoder_that_timm_does_not_have_for_these_images_is_refused(options, message):
    with pytest.raises(InputError, match=f"^BLEEP: {message}"):
        BLEEP(N_GENES, BLEEPOptions(**options))
