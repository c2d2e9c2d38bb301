"""EGN: its parameters, its forward pass written out, its loss, and whose expression its exemplars bring."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from spotwise.constants import BARCODES, IMAGES, PAPER, PATIENT, TEST, TRAIN, VAL
from spotwise.data.folds import Fold
from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.batch import Batch, Context, Exemplars
from spotwise.models.egn import EGN, AttentivePool, EGNOptions, batch_correlation
from spotwise.models.sizes import Sizes
from spotwise.training.dataset import Spots

GENES, FEATURES, SPOTS = 5, 7, 6
SMALL = {
    "image_size": 12,
    "patch_size": 4,
    "dim": 8,
    "depth": 4,
    "heads": 2,
    "mlp_dim": 12,
    "bridge_heads": 3,
    "bridge_head_dim": 2,
    "exemplars": 4,
}


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(**options):
    torch.manual_seed(0)
    return EGN(GENES, FEATURES, EGNOptions(**{**SMALL, **options})).double()


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small_batch(options):
    exemplars = Exemplars(
        random(SPOTS, FEATURES, seed=1),
        random(SPOTS, options.exemplars, FEATURES, seed=2),
        random(SPOTS, options.exemplars, GENES, seed=3),
    )
    images = random(SPOTS, 3, options.image_size, options.image_size, seed=4)
    return Batch(images, random(SPOTS, GENES, seed=5), exemplars=exemplars)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return EGN.of(Sizes(genes=250, features=2048), EGNOptions())


def test_parameters_are_the_released_ones_without_the_untrained():
    """133,356,794 as released; what is missing is the parts that never receive a gradient."""
    unused_layers = 4 * (512 * 1024 + 1024)
    last_position = 1024
    last_exemplar_update = (256 * 1024 + 1024) + 2 * 1024
    with torch.device("meta"):
        model = EGN(250, 2048, EGNOptions())
    assert n_parameters(model) == 133_356_794 - unused_layers - last_position - last_exemplar_update == 130_989_306


def test_parameters_of_each_part_are_the_released_ones(published):
    assert n_parameters(published.patch_embedding) == 3_146_752
    assert n_parameters(published.projector) == 8_911_872
    assert [n_parameters(layer.attention) for layer in published.layers] == [4_197_376] * 8
    assert [n_parameters(layer.mlp) for layer in published.layers] == [8_395_776] * 8
    assert n_parameters(published.pool) == 1_049_600
    assert n_parameters(published.head) == 516_346


def test_every_second_layer_has_a_bridge_of_the_released_size_less_its_unused_layer(published):
    bridges = [layer.bridge and n_parameters(layer.bridge) for layer in published.layers]
    whole = 4_730_112 - 525_312
    assert bridges == [None, whole, None, whole, None, whole, None, whole - 265_216]


def test_every_parameter_is_trained():
    model = small().train()
    model.loss(small_batch(model.options))["total"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


# --- forward pass -----------------------------------------------------------------------------------------------------


def linear(weights, name, x):
    """``name`` of a state dict on row vectors."""
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def norm(weights, name, x):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def mlp(weights, name, x):
    hidden = gelu(linear(weights, f"{name}.1.fc1", norm(weights, f"{name}.0", x)))
    return linear(weights, f"{name}.1.fc2", hidden)


def attention(weights, name, x, heads):
    query, key, value = linear(weights, f"{name}.1.qkv", norm(weights, f"{name}.0", x)).chunk(3, dim=-1)
    size = query.shape[-1] // heads
    parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
    attended = [(query[:, p] @ key[:, p].T / size**0.5).softmax(-1) @ value[:, p] for p in parts]
    return linear(weights, f"{name}.1.proj", torch.cat(attended, -1))


def bridge(weights, name, options, x, query, exemplars, values):
    """One spot: x (T, D), query (D,), exemplars and values (K, D)."""
    taken, new = [], []
    for exemplar, value in zip(exemplars, values, strict=True):
        hidden = linear(weights, f"{name}.update.compare.0", torch.cat((query - exemplar, exemplar)))
        hidden = hidden * hidden.sigmoid()
        value = linear(weights, f"{name}.update.value", value)
        taken.append(linear(weights, f"{name}.update.query_gate", hidden).sigmoid() * value)
        if f"{name}.update.norm.weight" in weights:
            gate = linear(weights, f"{name}.update.exemplar_gate", hidden).sigmoid()
            new.append(norm(weights, f"{name}.update.norm", exemplar + gate * value))
    updated = query + sum(taken) / len(taken)
    gate = linear(weights, f"{name}.gate.1", norm(weights, f"{name}.gate.0", updated)).sigmoid()
    content = linear(weights, f"{name}.content.1", norm(weights, f"{name}.content.0", x))
    gated = torch.empty_like(content)
    size = options.bridge_head_dim
    for token in range(options.tokens):
        for head in range(options.bridge_heads):
            part = slice(head * size, (head + 1) * size)
            gated[token, part] = gate[head * options.tokens + token] * content[token, part]
    new_query = query + linear(weights, f"{name}.to_query", sum(gated) / len(gated))
    return x + linear(weights, f"{name}.to_tokens", gated), new_query, torch.stack(new) if new else exemplars


def pool(weights, tokens):
    """Channel by channel."""
    score = linear(weights, "pool.score", tokens)
    pooled = []
    for channel in score.T:
        weight = (0.1 * channel).exp()
        pooled.append(channel.mean() + 0.5 * (weight / weight.sum() * channel).sum())
    return torch.stack(pooled)


def written_out(model, image, query, keys, expression):
    """Prediction (G,) for one spot, from the paper and the released code's description."""
    weights, options = dict(model.named_parameters()), model.options
    px, side = options.patch_size, options.image_size // options.patch_size
    patches = [
        image[:, px * row : px * (row + 1), px * column : px * (column + 1)].flatten()
        for row in range(side)
        for column in range(side)
    ]
    position = weights["position"][0]
    filters = weights["patch_embedding.weight"].flatten(1)
    x = torch.stack(patches) @ filters.T + weights["patch_embedding.bias"] + position
    query = linear(weights, "projector.query", query)
    exemplars = linear(weights, "projector.exemplars", torch.cat((keys, expression), -1))
    values = linear(weights, "projector.values", expression)
    for number in range(options.projector_layers):
        query = query + mlp(weights, f"projector.layers.{number}", query)
        exemplars = exemplars + mlp(weights, f"projector.layers.{number}", exemplars)
    for number in range(options.depth):
        layer = f"layers.{number}"
        x = x + attention(weights, f"{layer}.attention", x + position, options.heads)
        if number % options.bridge_every == options.bridge_every - 1:
            x, query, exemplars = bridge(weights, f"{layer}.bridge", options, x, query, exemplars, values)
        x = x + mlp(weights, f"{layer}.mlp", x)
    return linear(weights, "head.1", norm(weights, "head.0", torch.cat((pool(weights, x), query))))


@pytest.mark.parametrize("options", [{}, {"bridge_every": 1, "projector_layers": 1}, {"bridge_every": 4, "heads": 4}])
def test_prediction_and_gradients_equal_the_forward_pass_written_out(options):
    model = small(**options)
    batch = small_batch(model.options)
    predicted = model.predict(batch)
    expected = torch.stack([written_out(model, *spot) for spot in zip(batch.images, *batch.exemplars, strict=True)])
    torch.testing.assert_close(predicted, expected)
    ours, theirs = (torch.autograd.grad(x.square().sum(), model.parameters()) for x in (predicted, expected))
    torch.testing.assert_close(ours, theirs)


def bridge_inputs(model, seed=0):
    dim, tokens, k = model.options.dim, model.options.tokens, model.options.exemplars
    shapes = ((SPOTS, tokens, dim), (SPOTS, 1, dim), (SPOTS, k, dim), (SPOTS, k, dim))
    return [random(*shape, seed=seed + number) for number, shape in enumerate(shapes)]


def test_a_bridge_preserves_shapes_and_equals_its_loops():
    model = small()
    given = bridge_inputs(model)
    with torch.no_grad():
        found = model.layers[1].bridge(*given)
        weights = dict(model.named_parameters())
        for spot in range(SPOTS):
            x, query, exemplars, values = (part[spot] for part in given)
            looped = bridge(weights, "layers.1.bridge", model.options, x, query[0], exemplars, values)
            for ours, theirs in zip(found, looped, strict=True):
                torch.testing.assert_close(ours[spot], theirs.reshape(ours[spot].shape))
    assert [part.shape for part in found] == [part.shape for part in given[:3]]


def test_the_residual_of_the_query_is_the_query_before_its_update():
    block = small().layers[1].bridge
    tokens, query, exemplars, values = bridge_inputs(small())
    torch.nn.init.zeros_(block.to_query.weight)
    with torch.no_grad():
        updated, _ = block.update(query, exemplars, values)
        _, handed_on, _ = block(tokens, query, exemplars, values)
    assert torch.equal(handed_on, query)
    assert not torch.allclose(updated, query)


def test_updated_exemplars_are_layer_normalised_and_the_last_block_leaves_them_alone():
    layers = small().layers
    given = bridge_inputs(small())
    with torch.no_grad():
        updated, untouched = (layers[number].bridge(*given)[2] for number in (1, 3))
    torch.testing.assert_close(updated.mean(-1), torch.zeros(updated.shape[:2], dtype=updated.dtype))
    torch.testing.assert_close(
        updated.var(-1, correction=0), torch.ones(updated.shape[:2], dtype=updated.dtype), rtol=1e-3, atol=0
    )
    assert torch.equal(untouched, given[2])


def test_pooling_of_equal_tokens_is_one_and_a_half_times_their_score():
    torch.manual_seed(0)
    attentive = AttentivePool(8).double()
    token = random(2, 1, 8, seed=0)
    with torch.no_grad():
        torch.testing.assert_close(attentive(token.expand(2, 9, 8)), 1.5 * attentive.score(token)[:, 0])


def test_the_order_of_the_exemplars_does_not_matter():
    model = small()
    batch = small_batch(model.options)
    order = torch.tensor([2, 0, 3, 1])
    query, keys, expression = batch.exemplars
    turned = batch._replace(exemplars=Exemplars(query, keys[:, order], expression[:, order]))
    mixed = batch._replace(exemplars=Exemplars(query, keys[:, order], expression))
    with torch.no_grad():
        predicted = model.predict(batch)
        torch.testing.assert_close(model.predict(turned), predicted)
        assert not torch.allclose(model.predict(mixed), predicted), "each key goes with its own expression"


@pytest.mark.parametrize("changed", ["query", "keys", "expression", "images"])
def test_everything_shown_of_a_spot_changes_its_prediction_and_no_other(changed):
    model = small()
    batch = small_batch(model.options)
    part = getattr(batch, changed) if changed == "images" else getattr(batch.exemplars, changed)
    new = part.clone()
    new[2] += random(*new[2].shape, seed=9)
    other = (
        batch._replace(images=new)
        if changed == "images"
        else batch._replace(exemplars=batch.exemplars._replace(**{changed: new}))
    )
    with torch.no_grad():
        moved = (model.predict(other) - model.predict(batch)).abs().amax(dim=1) > 1e-6
    assert moved.tolist() == [spot == 2 for spot in range(SPOTS)]


def test_measured_expression_is_not_read_to_predict():
    model = small()
    batch = small_batch(model.options)
    with torch.no_grad():
        assert torch.equal(model.predict(batch._replace(expression=None)), model.predict(batch))


def test_the_token_grid_follows_image_and_patch():
    model = small(image_size=20, patch_size=4)
    assert model.position.shape == (1, 25, 8)
    assert model.predict(small_batch(model.options)).shape == (SPOTS, GENES)


# --- loss -------------------------------------------------------------------------------------------------------------


def loss_of(predicted, observed, monkeypatch, **options):
    model = small(**options)
    monkeypatch.setattr(model, "predict", lambda _: predicted)
    return model.loss(Batch(torch.empty(0), observed))


def test_a_perfect_prediction_costs_nothing(monkeypatch):
    observed = random(SPOTS, GENES, seed=0)
    terms = loss_of(observed.clone().requires_grad_(), observed, monkeypatch)
    assert terms["total"].item() == pytest.approx(0, abs=1e-7)
    assert terms["pearson"].item() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize(("options", "weight"), [({}, 0.5), ({"correlation_weight": 1.0}, 1.0)])
def test_loss_equals_numpys(monkeypatch, options, weight):
    predicted, observed = random(SPOTS, GENES, seed=0), random(SPOTS, GENES, seed=1)
    pearson = np.mean([np.corrcoef(p, o)[0, 1] for p, o in zip(predicted.T.numpy(), observed.T.numpy(), strict=True)])
    mse = np.mean((predicted - observed).numpy() ** 2)
    terms = loss_of(predicted.requires_grad_(), observed, monkeypatch, **options)
    assert terms["mse"].item() == pytest.approx(mse)
    assert terms["pearson"].item() == pytest.approx(pearson)
    assert terms["total"].item() == pytest.approx(mse + weight * (1 - pearson))
    assert [name for name, value in terms.items() if value.requires_grad] == ["total"]


@pytest.mark.parametrize("spots", [1, SPOTS])
def test_a_constant_gene_correlates_to_zero_and_the_gradient_stays_finite(spots):
    predicted, observed = random(spots, GENES, seed=0).float(), random(spots, GENES, seed=1).float()
    observed[:, 0] = 2.5
    predicted.requires_grad_()
    pearson = batch_correlation(predicted, observed)
    assert pearson[0] == 0
    pearson.sum().backward()
    assert predicted.grad.isfinite().all()
    assert batch_correlation(observed, predicted.detach())[0] == 0


def test_loss_is_computed_in_float32_under_bf16():
    model = small().float()
    batch = small_batch(model.options)
    exemplars = Exemplars(*(part.float() for part in batch.exemplars))
    batch = Batch(batch.images.float(), batch.expression.float(), exemplars=exemplars)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predicted, terms = model.predict(batch), model.loss(batch)
    assert predicted.dtype == torch.bfloat16
    pearson = batch_correlation(predicted.double(), batch.expression.double()).mean().item()
    assert terms["pearson"].item() == pytest.approx(pearson, rel=1e-5)
    assert {value.dtype for value in terms.values()} == {torch.float32}


# --- exemplars --------------------------------------------------------------------------------------------------------

SLIDES = ("A", "B", "C", "T")  # A and B are of one patient, T is tested
EACH, EXTRA, K = 8, 3, 4


@pytest.fixture
def cohort():
    """Return a cohort whose gene 0 is the row of the fold, without expression on the test slide."""
    n = EACH * len(SLIDES)
    rng = np.random.default_rng(0)
    sample = np.repeat(np.array(SLIDES, dtype=object), EACH)
    role = np.where(sample == "T", TEST, TRAIN).astype(object)
    role[[1, 4, 11, 18]] = VAL
    expression = rng.gamma(2, size=(n, GENES)).astype(np.float32)
    expression[:, 0] = np.arange(n)
    expression[sample == "T"] = np.nan
    return Fold(
        genes=np.array([f"G{gene}" for gene in range(GENES)], dtype=object),
        is_hvg=np.ones(GENES, dtype=bool),
        is_marker=np.zeros(GENES, dtype=bool),
        expression=expression,
        sample=sample,
        patient=np.array([{"A": "p", "B": "p", "C": "q", "T": "t"}[slide] for slide in sample], dtype=object),
        barcode=np.array([f"{slide}-{spot}" for slide in SLIDES for spot in range(EACH)], dtype=object),
        role=role,
        patch=np.concatenate([rng.permutation(EACH + EXTRA)[:EACH] for _ in SLIDES]),
        spatial=rng.uniform(0, 1e4, size=(n, 2)),
        array=rng.integers(0, 9, size=(n, 2)),
        total_counts=np.ones(n, dtype=np.float32),
        cohort="c",
        protocol="patient",
        fold=0,
    )


@pytest.fixture
def files(tmp_path, cohort):
    """Patches and features by slide.

    Slides are far apart in features, except that T repeats A: without a rule, the exemplars of a spot would be of its
    own slide or of the test slide.
    """
    rng = np.random.default_rng(1)
    features = {slide: rng.normal(10 * number, 1, size=(EACH + EXTRA, FEATURES)) for number, slide in enumerate("ABC")}
    features["T"] = np.empty_like(features["A"])
    features["T"][cohort.patch[cohort.sample == "T"]] = features["A"][cohort.patch[cohort.sample == "A"]]
    patches, embeddings = ({slide: tmp_path / f"{slide}.{kind}.h5" for slide in SLIDES} for kind in ("img", "emb"))
    for slide in SLIDES:
        barcodes = np.array([f"{slide}-patch{number}" for number in range(EACH + EXTRA)], dtype="S")
        with h5py.File(patches[slide], "w") as file:
            file[IMAGES] = rng.integers(0, 256, size=(EACH + EXTRA, 10, 10, 3), dtype=np.uint8)
            file[BARCODES] = barcodes[:, None]
        with h5py.File(embeddings[slide], "w") as file:
            file["embedding"] = features[slide].astype(np.float32)
            of_spots = barcodes.astype("S20")
            of_spots[cohort.patch[cohort.sample == slide]] = cohort.barcode[cohort.sample == slide].astype("S20")
            file["barcode"] = of_spots
            file.attrs["pretrained"] = False
    return patches, embeddings


def shown(cohort, files, role, context):
    """Who may be an exemplar, and the spots of one role, as training (``train``, ``val``) or prediction reads them."""
    patches, embeddings = files
    allowed = cohort.bank if role == TEST else cohort.rows(TRAIN)
    return allowed, Spots(
        cohort,
        cohort.rows(role),
        patches,
        torch.device("cpu"),
        context=context,
        observed=role != TEST,
        exemplar_rows=allowed,
        embeddings=embeddings,
    )


def features_by_row(cohort, files):
    found = []
    for slide, patch in zip(cohort.sample, cohort.patch, strict=True):
        with h5py.File(files[1][slide]) as file:
            found.append(file["embedding"][patch])
    return np.stack(found)


@pytest.mark.parametrize("role", [TRAIN, VAL, TEST])
def test_exemplars_are_training_spots_of_other_slides(cohort, files, role):
    _, spots = shown(cohort, files, role, Context(exemplars=K))
    exemplars = spots.batch(torch.arange(len(spots))).exemplars
    rows = exemplars.expression[..., 0].numpy()
    assert np.isfinite(rows).all(), "expression of the test slide, which was not measured"
    of = cohort.sample[rows.astype(int)]
    assert not (of == cohort.sample[cohort.rows(role)][:, None]).any()
    assert not (of == "T").any()
    np.testing.assert_array_equal(exemplars.expression.numpy(), cohort.expression[rows.astype(int)])


@pytest.mark.parametrize("role", [TRAIN, VAL, TEST])
def test_exemplars_are_the_nearest_by_euclidean_distance(cohort, files, role):
    allowed, spots = shown(cohort, files, role, Context(exemplars=K))
    index = torch.tensor([2, 0, 3])
    query, keys, expression = spots.batch(index).exemplars
    features = features_by_row(cohort, files)
    for number, row in enumerate(cohort.rows(role)[index.numpy()]):
        elsewhere = [one for one in allowed if cohort.patient[one] != cohort.patient[row]]
        near = sorted(elsewhere, key=lambda one: np.linalg.norm(features[one] - features[row]))[:K]
        np.testing.assert_array_equal(query[number].numpy(), features[row])
        np.testing.assert_array_equal(keys[number].numpy(), features[near])
        assert expression[number, :, 0].tolist() == near


@pytest.mark.parametrize("protocol", [PAPER, PATIENT])
def test_more_exemplars_than_there_are_spots_to_choose_from_are_refused(cohort, files, protocol):
    owner = cohort.sample if protocol == PAPER else cohort.patient
    train = cohort.rows(TRAIN)
    fewest = min((owner[train] != one).sum() for one in owner[train])
    with pytest.raises(InputError, match=rf"exemplars: .* found {fewest}, expected at least 30"):
        shown(replace(cohort, protocol=protocol), files, TRAIN, Context(exemplars=30))


def test_only_the_patient_protocol_forbids_other_slides_of_the_same_patient(cohort, files):
    siblings = {}
    for protocol in (PAPER, PATIENT):
        _, spots = shown(replace(cohort, protocol=protocol), files, TRAIN, Context(exemplars=K))
        rows = spots.batch(torch.arange(len(spots))).exemplars.expression[..., 0].numpy().astype(int)
        own = cohort.rows(TRAIN)[:, None]
        siblings[protocol] = (cohort.patient[rows] == cohort.patient[own]).sum()
        assert not (cohort.sample[rows] == cohort.sample[own]).any()
    assert siblings[PAPER] > 0 == siblings[PATIENT]


def test_a_test_slide_is_predicted_from_images_features_and_training_expression(cohort, files):
    torch.manual_seed(0)
    model = EGN.of(Sizes.of(cohort, files[1]), EGNOptions(**SMALL)).eval()
    _, spots = shown(cohort, files, TEST, model.options.context)
    batch = spots.batch(torch.arange(EACH))
    assert batch.expression is None
    assert batch.images.shape == (EACH, 3, SMALL["image_size"], SMALL["image_size"])
    with torch.no_grad():
        predicted = model.predict(batch)
        assert predicted.isfinite().all()
        trained = cohort.sample != "T"
        other = replace(cohort, expression=np.where(trained[:, None], cohort.expression + 1, cohort.expression))
        assert not torch.allclose(
            model.predict(shown(other, files, TEST, model.options.context)[1].batch(torch.arange(EACH))), predicted
        )


def test_training_on_a_fold_lowers_the_loss(cohort, files):
    torch.manual_seed(0)
    model = EGN.of(Sizes.of(cohort, files[1]), EGNOptions(**SMALL))
    cohort.expression[:, 0] = 0
    _, spots = shown(cohort, files, TRAIN, model.options.context)
    batch = spots.batch(torch.arange(len(spots)))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    course = []
    for _ in range(60):
        terms = model.loss(batch)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        course.append(terms)
    assert course[-1]["total"] < course[0]["total"] / 2
    assert course[-1]["pearson"] > course[0]["pearson"] + 0.3


# --- options ----------------------------------------------------------------------------------------------------------


def test_batches_hold_the_exemplars_and_images_that_the_options_say():
    assert EGNOptions().context == Context(image_px=256, exemplars=6)
    assert EGNOptions(exemplars=9, image_size=64).context == Context(image_px=64, exemplars=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exemplars": 0}, "exemplars: found 0, expected an integer of at least 1"),
        ({"patch_size": 48}, r"patch_size: found 48, expected a divisor of image_size \(256\)"),
        ({"heads": 5}, r"heads: found 5, expected a divisor of dim \(1024\)"),
        ({"bridge_every": 3}, r"bridge_every: found 3, expected a divisor of depth \(8\)"),
        ({"bridge_heads": 0}, "bridge_heads: found 0"),
        ({"correlation_weight": -1.0}, "correlation_weight: found -1.0"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^EGN: {message}"):
        registry.options("EGN", options)
