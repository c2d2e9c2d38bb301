"""CTransPath: its stem, its size, the published layout of its weights, and where they come from."""

from __future__ import annotations

import logging
import pickle
import re
import time
from collections import Counter
from functools import cache

import huggingface_hub
import pytest
import torch
from torch import nn
from torch.nn import functional

from fakehub import TOKEN, FakeHub
from spotwise.errors import InputError, SetupError
from spotwise.models import ctranspath, pretrained_weights, registry
from spotwise.models.batch import Batch
from spotwise.models.ctranspath import (
    ConvStem,
    CTransPath,
    CTransPathOptions,
    ctranspath_backbone,
    ctranspath_encoder,
    from_published,
)
from spotwise.models.pretrained_weights import load_checkpoint
from spotwise.models.registry import without_pretraining

SMALL = {"image_size": 56, "embed_dim": 16, "depths": "2-2-2", "heads": "1-2-4"}
SMALL_SHAPE = (56, 16, (2, 2, 2), (1, 2, 4))
GENES = 7


def small(**options):
    torch.manual_seed(0)
    return CTransPath(GENES, CTransPathOptions(**{**SMALL, **options}))


def small_batch(spots=4, px=56):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(spots, 3, px, px, generator=generator)
    return Batch(images, 3 * torch.rand(spots, GENES, generator=generator))


def randomised(network, seed=0):
    """Return the network with every value changed, in norms, biases and running statistics, too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) - (0 if name.endswith("running_var") else 0.5))
    return network.eval()


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def unbuilt():
    with torch.device("meta"):
        return ctranspath_backbone()


# The network


def test_parameters_are_the_released_ones():
    backbone = unbuilt()
    assert n_parameters(backbone) == 27_520_038
    assert n_parameters(backbone.patch_embed) - (3 * 16 * 96 + 96 + 2 * 96) == 684  # more than Swin's own stem
    with torch.device("meta"):
        assert n_parameters(CTransPath(1000, CTransPathOptions(pretrained="no"))) == 28_289_038


def test_backbone_gives_768_features():
    backbone = ctranspath_backbone().eval()
    with torch.inference_mode():
        assert backbone(torch.randn(1, 3, 224, 224)).shape == (1, 768)
    assert backbone.head_hidden_size == 768


def test_small_backbone_gives_the_channels_of_its_last_stage():
    with torch.inference_mode():
        assert ctranspath_backbone(*SMALL_SHAPE)(torch.randn(2, 3, 56, 56)).shape == (2, 64)


def test_features_are_the_mean_over_the_normalised_tokens():
    backbone, images = randomised(ctranspath_backbone(*SMALL_SHAPE)), small_batch().images
    with torch.inference_mode():
        tokens = backbone.forward_features(images)  # (B, 4, 4, 64)
        assert tokens.shape == (4, 4, 4, 64)
        torch.testing.assert_close(backbone(images), tokens.flatten(1, 2).mean(dim=1))


@pytest.mark.parametrize("px", [28, 40, 56, 112])
def test_images_of_any_multiple_of_4_pixels_fit(px):
    backbone = ctranspath_backbone(px, *SMALL_SHAPE[1:]).eval()
    with torch.inference_mode():
        assert backbone(torch.randn(2, 3, px, px)).isfinite().all()


# Its stem


def test_stem_equals_its_formula():
    stem = randomised(ConvStem(56, 4, 3, 16, nn.LayerNorm)).double()
    images = small_batch().images.double()
    state = stem.state_dict()

    def convolved(x, layer, **settings):
        return functional.conv2d(x, state[f"proj.{layer}.weight"], state.get(f"proj.{layer}.bias"), **settings)

    def batch_normed(x, layer):
        weight, bias, mean, variance = (
            state[f"proj.{layer}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    x = batch_normed(convolved(images, 0, stride=2, padding=1), 1).clamp(min=0)
    assert x.shape == (4, 2, 28, 28)
    x = batch_normed(convolved(x, 3, stride=2, padding=1), 4).clamp(min=0)
    assert x.shape == (4, 4, 14, 14)
    x = torch.einsum("bihw,oi->bhwo", x, state["proj.6.weight"][:, :, 0, 0]) + state["proj.6.bias"]
    centred = x - x.mean(dim=-1, keepdim=True)
    normed = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(stem(images), normed * state["norm.weight"] + state["norm.bias"])


def test_stem_of_the_published_size_gives_56_by_56_tokens_of_96_channels():
    stem = unbuilt().patch_embed
    assert stem.grid_size == (56, 56)
    assert [type(layer).__name__ for layer in stem.proj] == [
        *("Conv2d", "BatchNorm2d", "ReLU"),
        *("Conv2d", "BatchNorm2d", "ReLU"),
        "Conv2d",
    ]
    assert [stem.proj[layer].out_channels for layer in (0, 3, 6)] == [12, 24, 96]
    assert stem(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 56, 56, 96)


@pytest.mark.parametrize("px", [28, 112])
def test_images_of_another_size_are_refused(px):
    with pytest.raises(InputError, match=f"images: found {px} x {px} px, expected 56 x 56 px"):
        ctranspath_backbone(*SMALL_SHAPE)(torch.zeros(1, 3, px, px))


@pytest.mark.parametrize("other", [{"patch_size": 2}, {"output_fmt": "NCHW"}, {"strict_img_size": False}])
def test_a_stem_that_is_not_ctranspaths_is_refused(other):
    with pytest.raises(ValueError, match="no such stem"):
        ConvStem(
            **{"img_size": 56, "patch_size": 4, "in_chans": 3, "embed_dim": 16, "norm_layer": nn.LayerNorm} | other
        )


# The published layout


def published_layout(backbone):
    """Return the backbone's state with the names of timm 0.5.4, masks and indices included."""
    state = {}
    for key, value in backbone.state_dict().items():
        stage = re.match(r"layers\.([123])\.downsample\.(.*)", key)
        state[f"layers.{int(stage[1]) - 1}.downsample.{stage[2]}" if stage else key] = value.clone()
    for key, buffer in backbone.named_buffers():
        if key.endswith(("attn_mask", "relative_position_index")) and buffer is not None:
            state[key] = buffer.clone()
    return state


# What the published file holds: names of the stem, of the 12 blocks, of the 5 shifted blocks with a mask, of the rest
STEM = [f"patch_embed.proj.{layer}.weight" for layer in (0, 3, 6)] + ["patch_embed.proj.6.bias"]
STEM += [f"patch_embed.norm.{name}" for name in ("weight", "bias")]
STEM += [
    f"patch_embed.proj.{layer}.{name}"
    for layer in (1, 4)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
]
BLOCKS = [f"layers.{stage}.blocks.{block}" for stage, depth in enumerate((2, 2, 6, 2)) for block in range(depth)]
BLOCK = [f"{part}.{name}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for name in ("weight", "bias")]
BLOCK += [f"attn.{part}.{name}" for part in ("qkv", "proj") for name in ("weight", "bias")]
BLOCK += ["attn.relative_position_bias_table", "attn.relative_position_index"]
MASKED = ["layers.0.blocks.1", "layers.1.blocks.1", "layers.2.blocks.1", "layers.2.blocks.3", "layers.2.blocks.5"]
MERGING = [f"layers.{stage}.downsample.{name}" for stage in range(3) for name in ("norm.weight", "norm.bias")]
MERGING += [f"layers.{stage}.downsample.reduction.weight" for stage in range(3)]
PUBLISHED = [*STEM, *(f"{block}.{name}" for block in BLOCKS for name in BLOCK), *MERGING, "norm.weight", "norm.bias"]
PUBLISHED += [f"{block}.attn_mask" for block in MASKED]


def test_200_published_names_become_timms_183():
    assert len(set(PUBLISHED)) == 200
    renamed = from_published({key: key for key in PUBLISHED})
    assert renamed.keys() == unbuilt().state_dict().keys()
    assert len(renamed) == 183
    dropped = set(PUBLISHED) - set(renamed.values())
    assert Counter(key.rsplit(".", 1)[1] for key in dropped) == {"relative_position_index": 12, "attn_mask": 5}
    moved = {old: new for new, old in renamed.items() if new != old}
    assert moved == {key: re.sub(r"\.(\d)\.", lambda n: f".{int(n[1]) + 1}.", key, count=1) for key in MERGING}


def test_the_layout_these_tests_write_is_the_published_one():
    assert published_layout(unbuilt()).keys() == set(PUBLISHED)


@pytest.fixture
def checkpoint(tmp_path):
    """Return a file in the published layout, and its network."""
    network, path = randomised(ctranspath_backbone(*SMALL_SHAPE)), tmp_path / "ctranspath.pth"
    torch.save({"model": published_layout(network)}, path)
    return path, network


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_loaded_checkpoint_gives_the_outputs_of_its_network(checkpoint, wrapped):
    path, network = checkpoint
    if not wrapped:
        torch.save(torch.load(path)["model"], path)
    backbone, images = ctranspath_backbone(*SMALL_SHAPE).eval(), small_batch().images
    with torch.inference_mode():
        assert not torch.allclose(backbone(images), network(images))
        load_checkpoint(backbone, path, "CTransPath")
        assert torch.equal(backbone(images), network(images))


def damaged(checkpoint, change):
    path, _ = checkpoint
    state = torch.load(path)["model"]
    change(state)
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("layers.1.blocks.0.attn.qkv.bias"),
            "layers.1.blocks.0.attn.qkv.bias: found nothing, expected (96,)",
        ),
        (
            lambda state: state.pop("layers.0.downsample.norm.bias"),
            "layers.1.downsample.norm.bias: found nothing, expected (64,)",
        ),
        (
            lambda state: state.update({"head.weight": torch.zeros(5, 64)}),
            "head.weight: found (5, 64), expected nothing",
        ),
        (
            lambda state: state.update({"patch_embed.proj.0.weight": torch.zeros(2, 3, 5, 5)}),
            "patch_embed.proj.0.weight: found (2, 3, 5, 5), expected (2, 3, 3, 3)",
        ),
        (
            lambda state: state.update({"norm.bias": 1.0}),
            "checkpoint: found something else, expected tensors by name",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(checkpoint, change, message):
    path = damaged(checkpoint, change)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")) as refused:
        load_checkpoint(ctranspath_backbone(*SMALL_SHAPE), path, "CTransPath")
    assert "\n" not in str(refused.value)


def test_a_refused_checkpoint_leaves_the_network_as_it_was(checkpoint):
    path = damaged(checkpoint, lambda state: state.pop("norm.bias"))
    backbone = ctranspath_backbone(*SMALL_SHAPE)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(InputError):
        load_checkpoint(backbone, path, "CTransPath")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_weights_already_in_timms_layout_are_refused(checkpoint):
    path, network = checkpoint
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match=r"layers\.1\.downsample\.norm\.weight: found nothing"):
        load_checkpoint(ctranspath_backbone(*SMALL_SHAPE), path, "CTransPath")


class Runs:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "ctranspath.pth"
    torch.save({"model": Runs(tmp_path / "trace")}, path)
    with pytest.raises(InputError, match=r"checkpoint: found contents that cannot be read") as refused:
        load_checkpoint(ctranspath_backbone(*SMALL_SHAPE), path, "CTransPath")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", pickle.dumps([1, 2], protocol=2)])
def test_a_file_that_is_no_checkpoint_is_one_clear_line(tmp_path, content):
    path = tmp_path / "ctranspath.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: checkpoint: found") as refused:
        load_checkpoint(ctranspath_backbone(*SMALL_SHAPE), path, "CTransPath")
    assert "\n" not in str(refused.value)


# Where the weights come from


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Replace the hub by one that answers and has weights unless a test changes that."""

    class Hub:
        answers, has_weights = True, True
        request = None

        def head(self, url, timeout):
            if not self.answers:
                raise ConnectionError("no route")

        def download(self, repo, file, **settings):
            self.request = (repo, file, settings, huggingface_hub.constants.HF_HUB_OFFLINE)
            if not self.has_weights:
                raise FileNotFoundError(f"no such file for {TOKEN}")
            path = tmp_path / "fetched.pth"
            torch.save({"model": published_layout(randomised(ctranspath_backbone(*SMALL_SHAPE), seed=3))}, path)
            return str(path)

    hub = Hub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    # the published sizes cost a second each time
    monkeypatch.setattr(ctranspath, "ctranspath_backbone", lambda *_: ctranspath_backbone(*SMALL_SHAPE))
    return hub


def is_seed(backbone, seed):
    same = randomised(ctranspath_backbone(*SMALL_SHAPE), seed).state_dict()
    return all(torch.equal(value, same[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("pretrained", ["if_available", "required"])
def test_published_weights_are_used_if_available(hub, pretrained, caplog):
    backbone, loaded = ctranspath_encoder(pretrained)
    assert loaded
    assert is_seed(backbone, 3)
    file = ("MahmoodLab/hest-bench", "fm_v1/ctranspath/ctranspath.pth")
    assert hub.request == (*file, {"repo_type": "dataset", "token": TOKEN}, False)
    model = CTransPath(GENES, CTransPathOptions(pretrained=pretrained))
    assert model.pretrained_loaded
    assert is_seed(model.image_encoder, 3)
    assert not caplog.records


def test_random_weights_replace_unreachable_ones_with_one_line_of_warning(hub, caplog):
    hub.has_weights = False
    with caplog.at_level(logging.WARNING):
        backbone, loaded = ctranspath_encoder("if_available")
    assert not loaded
    assert not is_seed(backbone, 3)
    (message,) = caplog.messages
    assert message == (
        "CTransPath starts from random weights, as none are available at datasets/MahmoodLab/hest-bench: "
        "no such file for <token>"
    )


@pytest.mark.parametrize("build", [ctranspath_encoder, lambda p: CTransPath(GENES, CTransPathOptions(pretrained=p))])
def test_required_weights_that_cannot_be_had_stop_the_run_and_tell_no_token(hub, build):
    hub.has_weights = False
    expected = r"no pretrained weights for CTransPath at datasets/MahmoodLab/hest-bench \(no such file for <token>\); "
    with pytest.raises(SetupError, match=expected + r".*a local file where checkpoint.*if_available$") as stopped:
        build("required")
    assert TOKEN not in str(stopped.value)
    assert stopped.value.__suppress_context__


def test_fetched_weights_of_another_layout_stop_the_run_even_where_weights_are_not_required(hub, monkeypatch):
    monkeypatch.setattr(ctranspath, "ctranspath_backbone", lambda *_: ctranspath_backbone(56, 32, (2, 2, 2), (1, 2, 4)))
    with pytest.raises(InputError, match=r"fetched\.pth: patch_embed\.proj\.0\.weight"):
        ctranspath_encoder("if_available")


def test_no_weights_are_read_when_not_wanted(hub, tmp_path):
    assert not ctranspath_encoder("no", str(tmp_path / "none.pth"))[1]
    with pytest.raises(InputError, match="pretrained: found 'no' with a checkpoint"):
        registry.options("CTransPath", {"pretrained": "no", "checkpoint": "none.pth"})
    assert hub.request is None


def test_a_trained_model_is_restored_without_the_checkpoint_it_started_from(hub):
    given = without_pretraining("CTransPath", {"checkpoint": "none.pth", "pretrained": "required"})
    assert not CTransPath(GENES, CTransPathOptions(**given)).pretrained_loaded
    assert hub.request is None


def test_other_sizes_ask_for_no_weights(hub):
    assert small().pretrained_loaded is None
    assert hub.request is None


def test_without_a_network_only_the_cache_is_read_and_the_setting_returns(hub):
    hub.answers = False
    assert ctranspath_encoder("if_available")[1]
    assert hub.request[-1]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_without_the_variable_no_token_is_looked_for(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    ctranspath_encoder("if_available")
    assert hub.request[2]["token"] is False


@pytest.mark.parametrize("pretrained", ["if_available", "required"])
def test_a_local_checkpoint_is_taken_before_the_hubs(hub, checkpoint, pretrained):
    path, network = checkpoint
    model = small(checkpoint=str(path), pretrained=pretrained)
    assert model.pretrained_loaded
    assert hub.request is None
    with torch.inference_mode():
        images = small_batch().images
        assert torch.equal(model.eval().image_encoder(images), network(images))


@pytest.mark.parametrize("pretrained", ["if_available", "required"])
def test_a_local_checkpoint_that_is_not_there_stops_the_run(hub, tmp_path, pretrained):
    with pytest.raises(InputError, match=r"none\.pth: checkpoint: found no such file"):
        ctranspath_encoder(pretrained, str(tmp_path / "none.pth"))


def test_unreachable_hub_costs_seconds_not_a_minute(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(SetupError, match=r"hest-bench \([^)]*cache.*\); connect this machine"):
        ctranspath_encoder("required")
    assert time.monotonic() - started < pretrained_weights.PROBE_SECONDS


def test_a_gated_hub_without_a_token_is_told_as_such(monkeypatch, tmp_path):
    constants = huggingface_hub.constants
    with FakeHub({ctranspath.FILE: b""}, repo=ctranspath.REPO) as gated:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, gated.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", gated.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        expected = (
            r"no pretrained weights for CTransPath at datasets/MahmoodLab/hest-bench "
            r"\(the hub refuses access, status 401\); "
            rf"accept the terms at {gated.url}/datasets/MahmoodLab/hest-bench and set HF_TOKEN .* a local file"
        )
        with pytest.raises(SetupError, match=expected):
            ctranspath_encoder("required")
    assert any(path.endswith(f"/resolve/main/{ctranspath.FILE}") for _, path, *_ in gated.requests)


def test_the_frozen_encoder_says_what_images_it_takes(hub):
    backbone, _ = ctranspath_encoder("no")
    assert backbone.pretrained_cfg == {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "input_size": (3, 224, 224),
        "fixed_input_size": True,
    }


# The method


def test_predictions_begin_around_the_training_mean():
    model, batch = small().eval(), small_batch()
    before = model.predict(batch)
    model.begin(torch.stack([torch.zeros(GENES), 2 * torch.arange(GENES, dtype=torch.float32)]))
    bias = torch.arange(GENES, dtype=torch.float32)
    torch.testing.assert_close(model.head.bias, bias)
    head = model.head.weight
    with torch.no_grad():
        features = model.image_encoder(batch.images)
        torch.testing.assert_close(model.predict(batch), features @ head.T + bias)
        assert not torch.allclose(model.predict(batch), before)


def test_every_parameter_is_trained_from_the_first_step_on():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    model.loss(batch)["total"].backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert idle == []


def test_loss_is_the_mean_squared_error_over_spots_and_genes():
    model, batch = small().eval(), small_batch()
    predicted = model.predict(batch._replace(expression=None))
    by_hand = sum((predicted[s, g] - batch.expression[s, g]) ** 2 for s in range(4) for g in range(GENES)) / (4 * GENES)
    terms = model.loss(batch, torch.Generator())
    assert list(terms) == ["total"]
    assert terms["total"].requires_grad
    torch.testing.assert_close(terms["total"], by_hand)


def test_the_loss_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert small().loss(small_batch())["total"].dtype == torch.float32


def test_a_few_steps_fit_a_few_spots():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    first = model.loss(batch)["total"].item()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch)["total"].backward()
        optimiser.step()
    assert model.loss(batch)["total"].item() < 0.2 * first


# Options


def test_images_are_requested_at_the_size_of_the_options():
    assert CTransPathOptions(**SMALL).context.image_px == 56


def test_defaults_are_the_published_sizes_of_the_backbone():
    shapes = [{key: value.shape for key, value in unbuilt().state_dict().items()}]
    with torch.device("meta"):
        model = CTransPath(GENES, CTransPathOptions(pretrained="no"))
    shapes.append({key: value.shape for key, value in model.image_encoder.state_dict().items()})
    assert shapes[0] == shapes[1]
    assert CTransPathOptions().published


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": "maybe"}, "pretrained: found 'maybe', expected one of no, if_available, required"),
        ({"pretrained": "required", **SMALL}, "pretrained: found 'required', expected a checkpoint, or the published"),
        ({"image_size": 58}, "image_size: found 58, expected a multiple of 4"),
        ({"image_size": 0}, "image_size: found 0"),
        ({"embed_dim": 12}, "embed_dim: found 12, expected a multiple of 8"),
        ({"depths": "2,2"}, "depths: found '2,2', expected whole numbers above 0 joined by '-'"),
        ({"heads": "3-6"}, "heads: found '3-6', expected 4 numbers, as many as depths has"),
        ({"heads": "3-6-13-24"}, r"heads: found 13, expected a divisor of the channels of stage 3 \(384\)"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^CTransPath: {message}"):
        registry.options("CTransPath", options)
