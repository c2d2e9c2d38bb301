"""ST-Net: its size, how it begins, its two losses, and the symmetries it predicts from."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from spotwise.errors import InputError
from spotwise.models import registry, stnet
from spotwise.models.batch import Batch
from spotwise.models.images import turn
from spotwise.models.options import stages
from spotwise.models.stnet import STNet, STNetOptions
from spotwise.models.stnet_options import DENSENET_121

SMALL = {"image_size": 32, "growth_rate": 4, "blocks": "2-2-2"}
GENES = 7


def small(**options):
    torch.manual_seed(0)
    return STNet(GENES, STNetOptions(**{**SMALL, **options}))


def trained(**options):
    """Return a network whose output depends on the image, as after some training."""
    model = small(**options)
    nn.init.normal_(model.head.weight)
    return model.eval()


def small_batch(spots=6, px=32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(spots, 3, px, px, generator=generator)
    return Batch(images, 3 * torch.rand(spots, GENES, generator=generator))


def turned(batch, symmetry):
    return batch._replace(images=turn(batch.images.permute(0, 2, 3, 1), symmetry).permute(0, 3, 1, 2))


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# The network


@pytest.mark.parametrize(("genes", "total"), [(250, 7_210_106), (1000, 7_978_856)])
def test_parameters_are_the_released_ones(genes, total):
    with torch.device("meta"):
        model = STNet(genes, STNetOptions(pretrained="no"))
    assert n_parameters(model) == total
    assert n_parameters(model.image_encoder) == 6_953_856
    assert sum(buffer.numel() for buffer in model.buffers()) == 83_769
    assert model.pretrained_loaded is False


def test_a_densenet_of_the_published_shape_is_the_one_with_weights():
    growth_rate, blocks = DENSENET_121
    with torch.device("meta"):
        ours = stnet.DenseNet(growth_rate, stages(blocks), num_classes=0)
        timms, _ = stnet.timm_encoder(stnet.WEIGHTS, "no")
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (ours, timms)]
    assert shapes[0] == shapes[1]


def test_predictions_equal_torchvisions_densenet_with_the_same_weights():
    model, batch = trained(symmetries=False), small_batch()
    theirs = torchvision.models.DenseNet(4, (2, 2, 2), num_init_features=8, num_classes=GENES).eval()
    theirs.load_state_dict(
        {
            key.removeprefix("image_encoder.").replace("head.", "classifier."): value
            for key, value in model.state_dict().items()
        }
    )
    with torch.inference_mode():
        torch.testing.assert_close(model.predict(batch), theirs(batch.images))


def test_only_densenet_121_asks_for_weights_and_for_torchvisions(monkeypatch):
    requested = []

    def encoder(name, pretrained):
        requested.append((name, pretrained))
        return stnet.DenseNet(4, (2, 2), num_classes=0), True

    monkeypatch.setattr(stnet, "timm_encoder", encoder)
    assert small().pretrained_loaded is None
    assert requested == []
    assert STNet(GENES, STNetOptions()).pretrained_loaded
    assert requested == [("densenet121.tv_in1k", "if_available")]


# How it begins


def test_first_predictions_are_exactly_the_training_mean():
    expression = 5 * torch.rand(101, GENES)
    for symmetries in (True, False):
        model = small(symmetries=symmetries).eval()
        model.begin(expression)
        with torch.inference_mode():
            predicted = model.predict(small_batch()._replace(expression=None))
        assert torch.equal(predicted, expression.mean(dim=0).expand(6, -1))


def test_first_step_moves_the_head_alone():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    model.loss(batch)["total"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(parameter.grad.any() for parameter in model.image_encoder.parameters())
    assert model.head.weight.grad.any(dim=1).all()


def test_every_parameter_is_trained_from_the_second_step_on():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model.loss(batch)["total"].backward()
    optimiser.step()
    model.loss(batch)["total"].backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_an_optimiser_made_before_the_beginning_trains_the_bias():
    model, batch = small().train(), small_batch()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model.begin(torch.zeros(3, GENES))
    model.loss(batch)["total"].backward()
    optimiser.step()
    torch.testing.assert_close(model.head.bias, 0.1 * 2 * batch.expression.mean(dim=0) / GENES)


def test_a_few_steps_fit_a_few_spots():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    first = model.loss(batch)["total"].item()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(batch)["total"].backward()
        optimiser.step()
    assert model.loss(batch)["total"].item() < 0.1 * first


# Losses


def test_first_loss_is_the_variance_of_the_expression():
    model, batch = small().train(), small_batch()
    model.begin(batch.expression)
    torch.testing.assert_close(model.loss(batch)["total"], batch.expression.var(dim=0, correction=0).mean())


def test_sum_is_over_spots_of_the_mean_over_genes():
    batch = small_batch()
    summed, mean = trained(loss="sum"), trained(loss="mean")
    predicted = summed.head(summed.image_encoder(batch.images))
    by_hand = sum(
        sum((predicted[spot, gene] - batch.expression[spot, gene]) ** 2 for gene in range(GENES)) / GENES
        for spot in range(len(predicted))
    )
    terms = summed.loss(batch)
    torch.testing.assert_close(terms["total"], by_hand)
    torch.testing.assert_close(terms["mse"], by_hand.detach() / 6)
    torch.testing.assert_close(mean.loss(batch)["total"], by_hand / 6)


def test_summed_loss_multiplies_gradients_by_the_batch():
    batch = small_batch()
    gradients = []
    for loss in ("sum", "mean"):
        model = trained(loss=loss)
        model.loss(batch)["total"].backward()
        gradients.append(model.image_encoder.features.conv0.weight.grad)
    torch.testing.assert_close(gradients[0], 6 * gradients[1])


@pytest.mark.parametrize(("loss", "names"), [("mean", {"total"}), ("sum", {"total", "mse"})])
def test_only_the_total_is_differentiable_and_a_mask_generator_is_accepted(loss, names):
    terms = small(loss=loss).loss(small_batch(), torch.Generator())
    assert set(terms) == names
    assert [name for name, value in terms.items() if value.requires_grad] == ["total"]


def test_the_loss_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert trained().loss(small_batch())["total"].dtype == torch.float32


# Symmetries


@pytest.fixture
def predictions():
    """Of the 8 turned versions of a batch, with and without averaging."""
    batch = small_batch()._replace(expression=None)
    with torch.inference_mode():
        return {
            symmetries: torch.stack([trained(symmetries=symmetries).predict(turned(batch, s)) for s in range(8)])
            for symmetries in (True, False)
        }


def test_a_turned_image_has_the_same_prediction(predictions):
    torch.testing.assert_close(predictions[True], predictions[True][:1].expand(8, -1, -1))


def test_without_the_symmetries_every_turn_predicts_differently(predictions):
    for this in range(8):
        for other in range(this):
            assert not torch.allclose(predictions[False][this], predictions[False][other])


def test_the_prediction_is_the_mean_over_the_turned_images(predictions):
    torch.testing.assert_close(predictions[True][0], predictions[False].mean(dim=0))


def test_training_sees_the_image_as_it_is():
    model, batch = trained(), small_batch()
    error = model.head(model.image_encoder(batch.images)) - batch.expression
    torch.testing.assert_close(model.loss(batch)["total"], error.square().mean())


# Options


def test_images_are_requested_at_the_size_of_the_options():
    assert STNetOptions(image_size=64).context.image_px == 64


def test_the_smallest_images_allowed_pass_the_network():
    model = small(image_size=16).train()
    assert model.loss(small_batch(px=16))["total"].isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": "maybe"}, "pretrained: found 'maybe', expected one of no, if_available, required"),
        ({"loss": "total"}, "loss: found 'total', expected one of mean, sum"),
        ({"growth_rate": 0}, "growth_rate: found 0"),
        ({"blocks": "6,12"}, "blocks: found '6,12', expected whole numbers above 0 joined by '-'"),
        ({"blocks": "6-0"}, "blocks: found '6-0'"),
        ({"blocks": ""}, "blocks: found ''"),
        ({"image_size": 31}, "image_size: found 31, expected 32 or more"),
        ({"pretrained": "required", "growth_rate": 16}, "pretrained: found 'required', expected 'no', or growth_rate"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^STNet: {message}"):
        registry.options("STNet", options)
