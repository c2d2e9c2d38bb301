"""HisToGene: its parameters, its transformer against plain formulas, and slides seen as windows."""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from spotwise.constants import IMAGES, TEST
from spotwise.data.folds import Fold
from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.batch import Batch
from spotwise.models.histogene import HisToGene, HisToGeneOptions
from spotwise.models.sizes import Sizes
from spotwise.training.dataset import Spots

SMALL = {"window": 64, "image_size": 16, "dim": 32, "layers": 2, "heads": 4}
N_GENES = 12
SPOTS = 12


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(positions=64, **options):
    torch.manual_seed(0)
    model = HisToGene.of(Sizes(N_GENES, positions=positions), HisToGeneOptions(**SMALL | options))
    return model.eval()


def small_batch(spots=SPOTS, size=16, positions=64):
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.randn(spots, 3, size, size, generator=generator),
        3 * torch.rand(spots, N_GENES, generator=generator),
        torch.randint(positions, (spots, 2), generator=generator),
    )


def predict(model, batch):
    with torch.no_grad():
        return model.predict(batch)


# --- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "parameters"), [(4, 73_061_137), (8, 106_648_337)])
def test_parameters_are_the_released_ones(layers, parameters):
    with torch.device("meta"):
        model = HisToGene.of(Sizes(785, positions=64), HisToGeneOptions(layers=layers))
    assert n_parameters(model) == parameters
    parts = (model.patch_embedding, model.row_embedding, model.column_embedding, model.transformer, model.head)
    assert [n_parameters(part) for part in parts] == [38_536_192, 65_536, 65_536, layers * 8_396_800, 806_673]


def test_published_size_is_the_default():
    with torch.device("meta"):
        assert n_parameters(HisToGene(1000, 64, HisToGeneOptions())) == 106_868_712


def by_formulas(model, batch):
    """HisToGene spelt out with explicit attention weights, for one window."""
    weight = dict(model.named_parameters())

    def linear(x, name):
        bias = weight.get(f"{name}.bias")
        return x @ weight[f"{name}.weight"].T + (0 if bias is None else bias)

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weight[f"{name}.weight"] + weight[f"{name}.bias"]

    row, column = batch.position.T
    x = linear(batch.images.reshape(len(batch.images), -1), "patch_embedding")
    x = x + weight["row_embedding.weight"][row] + weight["column_embedding.weight"][column]
    heads, width = SMALL["heads"], SMALL["dim"] // SMALL["heads"]
    for layer in range(SMALL["layers"]):
        query, key, value = linear(norm(x, f"transformer.{layer}.norm1"), f"transformer.{layer}.attn.qkv").chunk(3, -1)
        attended = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = query[:, part] @ key[:, part].T / math.sqrt(width)
            attended.append(logits.softmax(-1) @ value[:, part])
        x = x + linear(torch.cat(attended, -1), f"transformer.{layer}.attn.proj")
        hidden = functional.gelu(linear(norm(x, f"transformer.{layer}.norm2"), f"transformer.{layer}.mlp.fc1"))
        x = x + linear(hidden, f"transformer.{layer}.mlp.fc2")
    return linear(norm(x, "head.0"), "head.1")


def test_predictions_are_those_of_the_formulas():
    model, batch = small(position_std=1.0), small_batch()
    assert f"transformer.{SMALL['layers']}.norm1.weight" not in dict(model.named_parameters())
    torch.testing.assert_close(predict(model, batch), by_formulas(model, batch), atol=1e-5, rtol=1e-5)


def test_attention_has_no_bias_before_but_one_after():
    attention = small().transformer[0].attn
    assert attention.qkv.bias is None
    assert attention.proj.bias is not None


# --- a window as a sequence -------------------------------------------------------------------------------------------


def test_the_order_of_spots_does_not_matter():
    model, batch = small(position_std=1.0), small_batch()
    order = torch.randperm(SPOTS, generator=torch.Generator().manual_seed(2))
    mixed = Batch(batch.images[order], None, batch.position[order])
    torch.testing.assert_close(predict(model, mixed), predict(model, batch)[order], atol=1e-5, rtol=1e-5)


def test_which_patch_is_at_which_position_matters():
    model, batch = small(position_std=1.0), small_batch()
    order = torch.arange(SPOTS).roll(1)
    mixed = batch._replace(images=batch.images[order])
    assert (predict(model, mixed) - predict(model, batch)[order]).abs().amax(1).min() > 1e-2


@pytest.mark.parametrize("axis", [0, 1])
def test_both_axes_of_the_position_matter(axis):
    model, batch = small(position_std=1.0), small_batch()
    moved = batch.position.clone()
    moved[0, axis] = (moved[0, axis] + 1) % 64
    assert (predict(model, batch._replace(position=moved)) - predict(model, batch))[0].abs().max() > 1e-2


def test_rows_are_not_columns():
    model, batch = small(position_std=1.0), small_batch()
    exchanged = batch._replace(position=batch.position.flip(1))
    assert (predict(model, exchanged) - predict(model, batch)).abs().amax(1).min() > 1e-2


@pytest.mark.parametrize("changed", [0, 5])
def test_every_spot_influences_every_other_and_itself_most(changed):
    model, batch = small(), small_batch()
    images = batch.images.clone()
    images[changed] = -images[changed]
    moved = (predict(model, batch._replace(images=images)) - predict(model, batch)).abs().amax(1)
    assert (moved > 1e-5).all()
    assert moved.argmax() == changed


def test_a_smaller_window_predicts_otherwise():
    model, batch = small(), small_batch()
    half = Batch(batch.images[:6], None, batch.position[:6])
    assert (predict(model, half) - predict(model, batch)[:6]).abs().amax(1).min() > 1e-4


def test_a_window_of_one_spot_is_predicted():
    assert predict(small(), small_batch(spots=1)).shape == (1, N_GENES)


# --- positions --------------------------------------------------------------------------------------------------------


def test_position_tables_are_as_long_as_the_largest_array():
    model = small(positions=128)
    assert model.row_embedding.num_embeddings == model.column_embedding.num_embeddings == 128
    far = small_batch()._replace(position=torch.full((SPOTS, 2), 127))
    assert torch.isfinite(predict(model, far)).all()


@pytest.mark.parametrize("position", [(64, 0), (0, 64), (-1, 0), (0, -1)])
def test_a_position_outside_the_array_is_refused(position):
    batch = small_batch()
    batch.position[3] = torch.tensor(position)
    with pytest.raises(IndexError):
        predict(small(positions=64), batch)


def spread_of_positions_and_images(std):
    model, images = small(dim=256, position_std=std), small_batch(64).images
    position = torch.cartesian_prod(torch.arange(64), torch.arange(64))
    with torch.no_grad():
        projected = model.patch_embedding(images.flatten(1)).std()
        embedded = (model.row_embedding(position[:, 0]) + model.column_embedding(position[:, 1])).std()
    return (embedded / std).item(), (embedded / projected).item()


def test_positions_start_with_the_chosen_spread_and_by_default_far_below_that_of_images():
    embedded, share = spread_of_positions_and_images(HisToGeneOptions().position_std)
    assert embedded == pytest.approx(math.sqrt(2), rel=0.05)
    assert 0.01 < share < 0.1
    embedded, share = spread_of_positions_and_images(1.0)
    assert embedded == pytest.approx(math.sqrt(2), rel=0.05)
    assert share > 1


# --- training ---------------------------------------------------------------------------------------------------------


def test_loss_is_the_mean_squared_error_over_the_window():
    model, batch = small(), small_batch()
    errors = predict(model, batch).numpy() - batch.expression.numpy()
    terms = model.loss(batch)
    assert list(terms) == ["total"]
    assert terms["total"].item() == pytest.approx((errors**2).mean(), rel=1e-5)


def test_every_parameter_learns():
    model, batch = small(positions=2).train(), small_batch(positions=2)
    model.loss(batch)["total"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_window_can_be_learnt():
    model, batch = small(dropout=0.0), small_batch()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss = model.loss(batch)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * batch.expression.var().item()


def test_dropout_is_random_in_training_only():
    model, batch = small(), small_batch()
    assert torch.equal(predict(model, batch), predict(model, batch))
    model.train()
    assert not torch.equal(predict(model, batch), predict(model, batch))
    without = small(dropout=0.0).train()
    assert torch.equal(predict(without, batch), predict(without.eval(), batch))


@pytest.mark.parametrize("part", ["dropout", "transformer.1.attn.proj_drop", "transformer.1.mlp.drop1"])
def test_dropout_is_of_the_embeddings_and_within_the_transformer(part):
    model, batch = small(dropout=0.3), small_batch()
    assert model.get_submodule(part).p == 0.3
    model.get_submodule(part).train()  # this one alone
    assert not torch.equal(predict(model, batch), predict(model, batch))


def test_the_loss_is_float32_under_bfloat16():
    model, batch = small(), small_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)["total"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model.loss(batch)["total"].item(), rel=0.02)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window: found 0"),
        ({"image_size": 0}, "image_size: found 0"),
        ({"layers": 0}, "layers: found 0"),
        ({"heads": 3}, "heads: found 3, expected a divisor of dim"),
        ({"dropout": 1.0}, "dropout: found 1.0"),
        ({"position_std": 0.0}, "position_std: found 0.0"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(InputError, match=f"^HisToGene: {message}"):
        registry.options("HisToGene", SMALL | options)


# --- whole slides -----------------------------------------------------------------------------------------------------


@pytest.fixture
def large_slide(tmp_path):
    """Return a fold of one test slide of 3,000 spots, and its patches of noise of 4 x 4 px."""
    rng = np.random.default_rng(0)
    n = 3000
    array = rng.permutation(np.stack(np.divmod(np.arange(n), 60), axis=1))
    slide = np.full(n, "T", dtype=object)
    fold = Fold(
        genes=np.array([f"G{gene:02d}" for gene in range(N_GENES)], dtype=object),
        is_hvg=np.ones(N_GENES, dtype=bool),
        is_marker=np.zeros(N_GENES, dtype=bool),
        expression=rng.gamma(2, size=(n, N_GENES)).astype(np.float32),
        sample=slide,
        patient=slide,
        barcode=np.array([f"T-{spot}" for spot in range(n)], dtype=object),
        role=np.full(n, TEST, dtype=object),
        patch=rng.permutation(n),
        spatial=100.0 * array[:, ::-1] + rng.uniform(-5, 5, size=(n, 2)),
        array=array,
        total_counts=np.ones(n, dtype=np.float32),
        cohort="c",
        protocol="patient",
        fold=0,
    )
    path = tmp_path / "T.h5"
    with h5py.File(path, "w") as file:
        file[IMAGES] = rng.integers(0, 256, size=(n, 4, 4, 3), dtype=np.uint8)
    return fold, {"T": path}


def unseen(fold, files, context):
    rows = fold.rows(TEST)
    return Spots(fold, rows, files, torch.device("cpu"), context=context, observed=False)


def test_a_slide_larger_than_a_window_gets_one_prediction_per_spot(large_slide):
    fold, files = large_slide
    options = HisToGeneOptions(**SMALL | {"window": 256, "image_size": 4})
    model = HisToGene.of(Sizes.of(fold), options).eval()
    spots = unseen(fold, files, options.context)
    times, windows = np.zeros(len(spots), dtype=int), []
    for index in spots.fixed_batches(64):
        batch = spots.batch(index)
        assert batch.expression is None
        predicted = predict(model, batch)
        assert predicted.shape == (len(index), N_GENES)
        assert torch.isfinite(predicted).all()
        times[index.numpy()] += 1
        windows.append(len(index))
    assert (times == 1).all()
    assert max(windows) <= 256
    assert len(windows) > 1


def test_spots_come_in_the_size_and_windows_that_the_options_ask_for(large_slide):
    fold, files = large_slide
    options = HisToGeneOptions(**SMALL | {"window": 200, "image_size": 2})
    spots = unseen(fold, files, options.context)
    windows = spots.training_batches(64, torch.Generator().manual_seed(0))
    assert [len(window) for window in windows] == [200] * 15
    batch = spots.batch(windows[0])
    assert batch.images.shape == (200, 3, 2, 2)
    np.testing.assert_array_equal(batch.position.numpy(), fold.array[windows[0].numpy()])


def test_measured_expression_changes_no_prediction(large_slide):
    fold, files = large_slide
    options = HisToGeneOptions(**SMALL | {"image_size": 4})
    model = HisToGene.of(Sizes.of(fold), options).eval()
    other = replace(fold, expression=np.full_like(fold.expression, np.nan))
    predictions = []
    for measured in (fold, other):
        spots = Spots(measured, measured.rows(TEST), files, torch.device("cpu"), context=options.context)
        predictions.append(predict(model, spots.batch(spots.fixed_batches(64)[0])))
    assert torch.equal(*predictions)
