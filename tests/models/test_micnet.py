"""MicNet against its definition: banks, noise candidates, loss, network, criterion and augmentation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from spotwise.errors import InputError
from spotwise.models import registry
from spotwise.models.batch import Batch
from spotwise.models.losses import NCE_EPSILON, noise_contrastive
from spotwise.models.micnet import MicNet, MicNetOptions, paired_spearman
from spotwise.models.registry import build
from spotwise.models.sizes import Sizes

SPOTS, GENES, PX, DIM, K = 20, 7, 32, 5, 6
SMALL = {"encoder": "test_resnet", "pretrained": "no", "image_size": PX, "embedding_dim": DIM, "gene_hidden": "8-6"}
SMALL |= {"negatives": K}


def micnet(**options):
    torch.manual_seed(0)
    return MicNet(GENES, MicNetOptions(**SMALL | options), SPOTS)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    return Batch(
        torch.randn(4, 3, PX, PX, generator=draw),
        torch.rand(4, GENES, generator=draw),
        index=torch.tensor([3, 0, 17, 8]),
    )


# --- Memory banks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.9, 0.25])
def test_a_training_step_moves_the_rows_of_its_spots_and_no_others(batch, momentum):
    model = micnet(bank_momentum=momentum).train()
    # BatchNorm takes the statistics of the batch: the same embeddings as within the loss
    new = {"image": model.embed_images(batch.images), "gene": model.embed_expression(batch.expression)}
    before = {"image": model.image_bank.clone(), "gene": model.gene_bank.clone()}
    model.loss(batch)
    for name, bank in (("image", model.image_bank), ("gene", model.gene_bank)):
        for row in range(SPOTS):
            if row not in batch.index:
                assert torch.equal(bank[row], before[name][row])
        for place, row in enumerate(batch.index.tolist()):
            old, embedded = (t.detach().numpy().astype(float) for t in (before[name][row], new[name][place]))
            expected = momentum * old + (1 - momentum) * embedded
            np.testing.assert_allclose(bank[row].numpy(), expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)
            assert math.isclose(float(bank[row].norm()), 1, abs_tol=1e-6)


def test_banks_take_no_gradient_and_no_part_in_validation(batch):
    model = micnet()
    model.train().loss(batch)["total"].backward()
    assert {"image_bank", "gene_bank"} == {name for name, _ in model.named_buffers() if "bank" in name}
    assert not any("bank" in name for name, _ in model.named_parameters())
    assert model.image_bank.grad is None
    assert all(parameter.grad is not None for parameter in model.parameters())
    before = model.gene_bank.clone()
    model.eval().loss(batch)
    assert torch.equal(model.gene_bank, before)


def test_banks_have_a_row_for_each_training_spot_of_length_about_1():
    model = build("MicNet", Sizes(GENES, training=500), SMALL | {"embedding_dim": 100})
    for bank in (model.image_bank, model.gene_bank):
        assert bank.shape == (500, 100)
        assert bank.abs().max() <= (3 / 100) ** 0.5
        assert abs(float(bank.norm(dim=1).mean()) - 1) < 0.02
    assert not torch.equal(model.image_bank, model.gene_bank)


# --- Noise candidates -------------------------------------------------------------------------------------------------


def drawn(times, own, **options):
    torch.manual_seed(2)
    candidates = micnet(**options).candidates(torch.full((times,), own))
    assert candidates.shape == (times, K + 1)
    assert (candidates[:, 0] == own).all()
    return np.bincount(candidates[:, 1:].flatten(), minlength=SPOTS)


@pytest.mark.parametrize("own", [0, 7, SPOTS - 1])
def test_noise_is_uniform_over_the_other_spots_and_never_the_spot_itself(own):
    counts = drawn(3000, own)
    assert len(counts) == SPOTS
    assert counts[own] == 0
    assert stats.chisquare(np.delete(counts, own)).pvalue > 0.001


def test_noise_may_be_the_spot_itself_where_the_options_say_so():
    counts = drawn(3000, 7, own_among_negatives=True)
    assert stats.chisquare(counts).pvalue > 0.001


# --- Loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "uniform", "certain"), [(2014, 100, 19.977, 0.0485), (64, 16, 5.0392, 0.2231), (160, 32, 6.5427, 0.1823)]
)
def test_noise_contrastive_estimation_has_the_reference_values(n, k, uniform, certain):
    sure = torch.zeros(1, k + 1)
    sure[0, 0] = 200
    assert float(noise_contrastive(torch.zeros(1, k + 1), n=n)) == pytest.approx(uniform, rel=5e-5)
    # the constant that keeps quotients finite adds n times itself
    assert float(noise_contrastive(sure, n=n)) == pytest.approx(certain + n * NCE_EPSILON, abs=6e-5)


def test_a_hopeless_spot_has_a_finite_loss_and_gradient():
    logits = torch.zeros(1, 5)
    logits[0, 0] = -300
    logits.requires_grad_()
    loss = noise_contrastive(logits, n=10).sum()
    loss.backward()
    assert 299 < loss.item() < 310
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] < -0.9


def plain_loss(embedding, bank, candidates):
    """One direction of MicNet's loss, spot by spot."""
    c, total = K / len(bank), 0.0
    for z, rows in zip(embedding, candidates, strict=True):
        similarity = [sum(a * b for a, b in zip(z, bank[row], strict=True)) for row in rows]
        weights = [math.exp(s - max(similarity)) for s in similarity]
        p = [w / sum(weights) for w in weights]
        total -= math.log(p[0] / (p[0] + c + NCE_EPSILON))
        total -= sum(math.log(c / (p_k + c + NCE_EPSILON)) for p_k in p[1:])
    return total / len(embedding)


def test_the_loss_equals_a_plain_version_of_both_directions(batch):
    model = micnet().eval()
    with torch.no_grad():
        image, gene = model.embed_images(batch.images) * 3, model.embed_expression(batch.expression) * 3
        model.embed_images, model.embed_expression = (lambda _: image), (lambda _: gene)
        terms = model.loss(batch, torch.Generator().manual_seed(5))
    candidates = model.candidates(batch.index, torch.Generator().manual_seed(5)).tolist()
    of_image = plain_loss(image.tolist(), model.gene_bank.tolist(), candidates)
    of_gene = plain_loss(gene.tolist(), model.image_bank.tolist(), candidates)
    assert float(terms["image"]) == pytest.approx(of_image, rel=1e-5)
    assert float(terms["gene"]) == pytest.approx(of_gene, rel=1e-5)
    assert float(terms["total"]) == pytest.approx(of_image + of_gene, rel=1e-5)


def test_the_other_objective_is_cross_entropy_of_cosines_over_the_temperature(batch):
    model = micnet(objective="cross_entropy", temperature=0.2).eval()
    with torch.no_grad():
        image = model.embed_images(batch.images).numpy().astype(float)
        terms = model.loss(batch, torch.Generator().manual_seed(5))
    candidates = model.candidates(batch.index, torch.Generator().manual_seed(5)).numpy()
    unit = image / np.linalg.norm(image, axis=1, keepdims=True)
    logits = np.einsum("bd,bkd->bk", unit, model.gene_bank.numpy()[candidates]) / 0.2
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[:, 0])
    assert float(terms["image"]) == pytest.approx(expected, rel=1e-5)


# --- Network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("genes", [50, 17649])
def test_the_published_network_has_the_published_parameters(genes):
    with torch.device("meta"):
        model = MicNet(genes, MicNetOptions(pretrained="no"), 10)
    count = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in (("image", model.image_encoder), ("gene", model.gene_encoder), ("all", model))
    }
    assert count["image"] == 42_705_060
    assert count["gene"] == 500 * genes + 61_900
    assert count["all"] == count["image"] + count["gene"]


def test_only_the_last_block_of_the_image_encoder_is_bounded():
    with torch.device("meta"):
        model = MicNet(50, MicNetOptions(pretrained="no"))
    bounded = [name for name, module in model.image_encoder.named_modules() if isinstance(module, nn.ReLU6)]
    free = [name for name, module in model.image_encoder.named_modules() if isinstance(module, nn.ReLU)]
    assert bounded == [f"0.layer4.2.act{number}" for number in (1, 2, 3)]
    assert len(free) == 1 + 3 * (3 + 4 + 23 + 2)  # stem, and all other bottlenecks of a ResNet101


def test_features_lie_between_0_and_6():
    model = micnet().train()
    with torch.no_grad():
        model.image_encoder[0].layer4[-1].bn2.weight.fill_(50)
        features = model.image_encoder[0](torch.randn(8, 3, PX, PX))
    assert features.min() >= 0
    assert 1 < features.max() <= 6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"negatives": 0}, "negatives"),
        ({"bank_momentum": 1.0}, "bank_momentum"),
        ({"gene_hidden": "500,100"}, "gene_hidden"),
        ({"objective": "mse"}, "objective"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options, named):
    with pytest.raises(InputError, match=f"^MicNet: {named}: found"):
        registry.options("MicNet", options)


def test_an_encoder_that_timm_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"^MicNet: encoder: found 'resnet1', expected the name of a timm model"):
        micnet(encoder="resnet1")


# --- Choice of the epoch ----------------------------------------------------------------------------------------------


def test_the_criterion_is_the_mean_spearman_of_paired_dimensions():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(30, 6))
    gene = image + rng.normal(size=(30, 6))
    gene[:, 4] = rng.integers(0, 3, size=30)  # ties
    expected = [stats.spearmanr(image[:, d], gene[:, d]).statistic for d in range(6)]
    np.testing.assert_allclose(paired_spearman(image, gene), expected, rtol=1e-12)
    gene[:, 2] = 0.5
    found = paired_spearman(image, gene)
    assert np.isnan(found).tolist() == [False, False, True, False, False, False]


def test_validation_takes_all_spots_together_and_leaves_constant_dimensions_out(caplog):
    model = micnet().eval()
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(10, 3)))
    gene = torch.from_numpy(rng.normal(size=(10, 3)))
    image[:, 1] = 0
    model.embed_images, model.embed_expression = (lambda index: image[index]), (lambda index: gene[index])
    # 7 and 3 spots: a mean over batches would be another number
    batches = [Batch(torch.arange(7), torch.arange(7)), Batch(torch.arange(7, 10), torch.arange(7, 10))]
    found = model.validate(iter(batches), 10, torch.Generator())
    a, b = (half / half.norm(dim=1, keepdim=True) for half in (image, gene))
    expected = np.mean([stats.spearmanr(a[:, d], b[:, d]).statistic for d in (0, 2)])
    assert found["spearman"] == pytest.approx(expected)
    assert found["total"] == pytest.approx(1 - expected)
    assert found["constant"] == 1
    assert "1 of 3 dimensions" in caplog.text
    gene[:] = 1.0
    assert math.isnan(model.validate(iter(batches), 10, torch.Generator())["total"])


def test_training_images_are_warped_unless_the_options_say_otherwise():
    assert MicNetOptions(**SMALL).context.augment == "warp"
    assert MicNetOptions(**SMALL, augmentation="turns").context.augment is None
