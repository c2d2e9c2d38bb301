"""CMRCNet against facts measured on the authors' released code (parameters, wiring, losses, one whole forward pass)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from spotwise.errors import InputError
from spotwise.models import cmrcnet, registry
from spotwise.models.batch import Batch
from spotwise.models.cmrcnet import CMRCNet, CMRCNetOptions, Outputs
from spotwise.models.losses import balance, combine, soft_contrastive

SMALL = {
    "encoder_depth": 2,
    "encoder_heads": 4,
    "encoder_dim": 32,
    "image_size": 64,
    "embedding_dim": 32,
    "gene_tokens": 4,
}
N_GENES = 12

ABLATIONS_FILE = Path(__file__).parents[2] / "configs/ablations.yaml"
ABLATIONS = [
    {},
    {"reconstruction": "none"},
    {"reconstruction_loss": "cosine"},
    {"reconstruction": "expression"},
    {"reconstruction": "expression", "reconstruction_loss": "cosine", "mask_granularity": "token"},
]

# Where the released code keeps what ours calls otherwise, longest first.
RELEASED_NAMES = {
    "fusion.0.cross_attention.own_value": "cross_modal_image_layers.0.cross_attention.fc_v1",
    "fusion.0.cross_attention.value": "cross_modal_image_layers.0.cross_attention.fc_v2",
    "fusion.0.cross_attention.query": "cross_modal_image_layers.0.cross_attention.fc_q",
    "fusion.0.cross_attention.key": "cross_modal_image_layers.0.cross_attention.fc_k",
    "fusion.0.image_block": "cross_modal_image_layers.0",
    "image_projection.project": "image_projection.projection",
    "image_projection.refine": "image_projection.fc",
    "image_projection.norm": "image_projection.layer_norm",
    "gene_projection.project": "spot_projection.projection",
    "gene_projection.refine": "spot_projection.fc",
    "gene_projection.norm": "spot_projection.layer_norm",
    "gene_tokens.linear": "spot_projection_restruction.0",
    "image_latent": "latent_linear_768_2_256",
}


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def unbuilt(n_genes=1000, **options):
    with torch.device("meta"):
        return CMRCNet(n_genes, CMRCNetOptions(**options))


def small(seed=0, **options):
    torch.manual_seed(seed)
    return CMRCNet(N_GENES, CMRCNetOptions(**{**SMALL, **options}))


def small_batch(spots=3, seed=1, size=64):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(spots, 3, size, size, generator=generator), 3 * torch.rand(spots, N_GENES, generator=generator)
    )


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gradients(module):
    """Per parameter: None, or whether any element of its gradient is not zero."""
    return {
        name: None if parameter.grad is None else bool(parameter.grad.any())
        for name, parameter in module.named_parameters()
    }


# Parameters


@pytest.mark.parametrize("n_genes", [10, 541, 1000, 3467])
def test_parameter_total_follows_the_released_formula_without_its_dead_head(n_genes):
    assert n_parameters(unbuilt(n_genes)) == 61_717_480 + 2304 * n_genes - 769_000


def test_parameters_of_each_part_are_the_released_ones():
    model = unbuilt()
    assert {name: n_parameters(part) for name, part in model.named_children()} == {
        "image_encoder": 59_103_744,
        "image_projection": 263_168,
        "gene_projection": 322_560,
        "image_latent": 196_864,
        "gene_tokens": 2_050_048,
        "first_attention": 263_168,
        "fusion": 1_052_928,
    }
    encoder = model.image_encoder
    assert n_parameters(encoder.patch_embed) == 2_360_064
    assert [n_parameters(block) for block in encoder.blocks] == [7_087_872] * 8
    assert (encoder.cls_token.numel(), encoder.pos_embed.numel(), n_parameters(encoder.norm)) == (768, 38_400, 1_536)
    block = model.fusion[0].image_block
    assert [n_parameters(part) for part in (block.norm1, block.attn, block.norm2, block.mlp)] == [
        512,
        263_168,
        512,
        525_568,
    ]
    assert n_parameters(model.fusion[0].cross_attention) == 263_168


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 63_252_480),
        ({"reconstruction": "expression"}, 63_252_480),  # the same modules, with exchanged inputs
        ({"reconstruction": "none"}, 59_103_744 + 263_168 + 322_560),  # encoder and both projection heads
        ({"reconstruction_loss": "cosine", "mask_granularity": "token", "detach_target": True}, 63_252_480),
    ],
)
def test_parameters_of_the_ablations_are_those_of_the_modules_they_use(options, total):
    assert n_parameters(unbuilt(**options)) == total


def test_untied_fusion_adds_one_block():
    assert n_parameters(unbuilt(fusion="untied")) - n_parameters(unbuilt()) == 1_052_928


def test_paper_encoder_is_vit_base():
    assert n_parameters(unbuilt(reading="paper").image_encoder) == 87_455_232


@pytest.mark.parametrize(("fusion", "blocks"), [("tied", 1), ("untied", 2)])
def test_fusion_runs_twice_and_every_weight_is_stored_once(fusion, blocks):
    model, passes = small(fusion=fusion), []
    for block in model.fusion:
        block.register_forward_hook(lambda module, _, __: passes.append(module))
    model(small_batch())
    assert len(model.fusion) == blocks
    assert [id(block) for block in passes] == [id(model.fusion[0]), id(model.fusion[-1])]
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters(remove_duplicate=False)]


# The released forward pass, number by number


@pytest.fixture(scope="module")
def released_forward():
    """All tensors of one float64 forward pass with weights, images, genes and mask of fixed seeds."""
    model = unbuilt().to_empty(device="cpu").double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_weights(_released_name(name), parameter.shape))
    seen = {}

    def keep(name, pick=lambda output: output):
        return lambda _, inputs, output: seen.setdefault(name, []).append(pick(output).detach())

    model.image_encoder.register_forward_hook(keep("tokens"))
    model.gene_tokens.register_forward_hook(keep("gene tokens"))
    model.first_attention.register_forward_hook(lambda _, inputs, __: seen.update({"masked latent": [inputs[0]]}))
    model.first_attention.register_forward_hook(keep("first attention", lambda output: output[0]))
    model.fusion[0].register_forward_hook(keep("fusion"))
    images = torch.from_numpy(np.random.RandomState(7).standard_normal((3, 3, 224, 224)))
    genes = torch.from_numpy(3 * np.random.RandomState(8).rand(3, 1000))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        draws = torch.from_numpy(np.random.RandomState(9).rand(3, 50, 256))
        patch.setattr(torch, "rand", lambda shape, **_: draws.reshape(shape))
        terms = model.loss(Batch(images, genes))
        outputs = model(Batch(images, genes))
    first = {name: values[0] for name, values in seen.items()}
    passes = {"fusion pass 1": seen["fusion"][0], "fusion pass 2": seen["fusion"][1]}
    return {**first, **passes, **outputs._asdict()}, terms


def _released_name(name):
    for ours, released in RELEASED_NAMES.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, released, 1)
    return name


def _weights(name, shape):
    drawn = np.random.RandomState(crc32(name.encode())).standard_normal(tuple(shape))
    shift = 1 if "norm" in name and name.endswith("weight") else 0
    return torch.from_numpy(drawn.astype(np.float32).astype(np.float64) * 0.02 + shift)


@pytest.mark.parametrize(
    ("name", "shape", "total", "squares", "first", "last"),
    [
        (
            "tokens",
            (3, 50, 768),
            70.597798,
            115367.918920,
            [-0.244118, -2.241821, -0.190195, 0.091573],
            [0.065309, 0.432113, -0.106367, 1.129548],
        ),
        (
            "image",
            (3, 256),
            -0.262898,
            775.512291,
            [0.189094, 1.231020, -1.297002, -0.713198],
            [-0.032922, -1.514006, -1.938249, -0.705564],
        ),
        (
            "gene",
            (3, 256),
            2.748756,
            771.315087,
            [-0.403636, 1.432954, -0.760496, 0.117513],
            [-0.001660, -1.108219, -1.245205, 0.116938],
        ),
        (
            "masked latent",
            (3, 50, 256),
            44.209219,
            6036.598774,
            [-0.606649, 0, -0.385135, 0.458716],
            [0.106397, 0, -1.706209, 0],
        ),
        (
            "gene tokens",
            (3, 8, 256),
            1159.715789,
            4741.444447,
            [-0.775654, -0.745535, 0.789068, -0.366277],
            [1.047707, -0.832590, -0.389393, -0.719751],
        ),
        (
            "first attention",
            (3, 50, 256),
            -100.269151,
            67.898902,
            [-0.016644, -0.009268, 0.018812, -0.045876],
            [-0.038807, 0.048240, -0.057633, -0.017316],
        ),
        (
            "fusion pass 1",
            (3, 50, 256),
            -205.573575,
            1030.105235,
            [-0.061542, -0.039238, 0.128684, -0.178256],
            [-0.150658, 0.184026, -0.185668, -0.258557],
        ),
        (
            "fusion pass 2",
            (3, 50, 256),
            -234.471104,
            3429.059966,
            [0.035989, -0.044237, 0.434370, -0.155619],
            [-0.285652, 0.132638, -0.197086, -0.506284],
        ),
        (
            "reconstructed",
            (3, 256),
            -4.689422,
            68.578174,
            [0.036805, -0.043565, 0.430795, -0.157318],
            [-0.284740, 0.132537, -0.196296, -0.506476],
        ),
    ],
)
def test_forward_pass_equals_the_released_one(released_forward, name, shape, total, squares, first, last):
    tensor = released_forward[0][name]
    assert tensor.shape == shape
    flat = tensor.flatten()
    for found, expected in (
        (flat[:4], first),
        (flat[-4:], last),
        (flat.sum(), total),
        (flat.square().sum(), squares),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=6e-7)


def test_losses_of_the_forward_pass_equal_the_released_ones(released_forward):
    tensors, terms = released_forward
    contrastive = balance(combine(*soft_contrastive(tensors["image"], tensors["gene"])))
    found = [terms["reconstruction"], contrastive, terms["total"] - contrastive, terms["total"]]
    np.testing.assert_allclose(found, [1.12753193, 2.10425260, 0.75496259, 2.85921519], rtol=0, atol=6e-9)


# Losses in both readings

EXAMPLE = Outputs(
    torch.tensor([[1, 0, 0.5, -0.5], [0, 1, -0.25, 0.75], [0.5, -0.5, 1, 0.25]]),
    torch.tensor([[0.8, 0.2, 0.4, -0.6], [-0.1, 0.9, 0.3, 0.5], [0.6, -0.4, 0.7, -0.2]]),
    torch.tensor([[1.5, 0.5, 1, 0], [0.5, 1.5, 0.25, 1.25], [1, 0, 1.5, 0.75]]),  # off by .5: error .25
)


def losses_of(outputs, monkeypatch, **options):
    model = small(**options)
    monkeypatch.setattr(model, "forward", lambda *_: outputs)
    return model.loss(small_batch())


@pytest.mark.parametrize(
    ("options", "contrastive"),
    [
        ({}, 0.628347),
        ({"log": "of_mean"}, 0.630531),
        ({"combination": "sum"}, 1.010111),
        ({"pairing": "paper"}, 0.631734),
        ({"temperature": 0.5}, 0.865571),
        ({"reading": "paper"}, 1.014221),
        ({"reading": "paper", "pairing": "paper"}, 1.018800),
        ({"reading": "paper", "log": "per_sample"}, 1.010111),
        ({"reading": "paper", "combination": "average"}, 0.630531),
    ],
)
def test_each_difference_between_the_readings_can_be_changed_alone(options, contrastive, monkeypatch):
    terms = losses_of(EXAMPLE, monkeypatch, **options)
    assert terms["reconstruction"] == 0.25
    assert terms["total"].item() == pytest.approx(contrastive + math.log(1.25), abs=2e-6)
    if "temperature" not in options and "pairing" not in options:
        assert terms["contrastive"].item() == pytest.approx(0.878608, abs=1e-6)


@pytest.mark.parametrize("reconstruction", ["image", "expression"])
@pytest.mark.parametrize("detach_target", [False, True])
def test_each_reconstruction_loss_compares_with_its_own_target_under_the_logarithm(
    reconstruction, detach_target, monkeypatch
):
    found = EXAMPLE.reconstructed.numpy()
    target = (EXAMPLE.image if reconstruction == "image" else EXAMPLE.gene).numpy()
    cosines = (found * target).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(target, axis=1)
    for loss, expected in (("mse", ((found - target) ** 2).mean()), ("cosine", 1 - cosines.mean())):
        options = {"reconstruction": reconstruction, "reconstruction_loss": loss, "detach_target": detach_target}
        terms = losses_of(EXAMPLE, monkeypatch, **options)
        assert terms["reconstruction"].item() == pytest.approx(expected, abs=1e-6)
        assert terms["total"].item() == pytest.approx(0.628347 + math.log1p(expected), abs=2e-6)


@pytest.mark.parametrize("log", ["per_sample", "of_mean"])
def test_without_reconstruction_the_total_is_the_contrastive_loss_of_the_same_weights(log):
    complete, contrastive_only = small(log=log).eval(), small(log=log, reconstruction="none").eval()
    batch = small_batch()
    with torch.no_grad():
        outputs = contrastive_only(batch)
        full, terms = complete.loss(batch, seeded(2)), contrastive_only.loss(batch)
    assert outputs.reconstructed is None
    assert terms["total"] == balance(combine(*soft_contrastive(outputs.image, outputs.gene)), log)
    assert terms["total"].item() == pytest.approx((full["total"] - balance(full["reconstruction"])).item(), abs=1e-6)
    assert set(full) - set(terms) == {"reconstruction"}
    assert terms["contrastive"] == full["contrastive"]


@pytest.mark.parametrize("reading", ["released", "paper"])
def test_collapse_shows_as_the_logarithm_of_the_batch_in_both_readings(reading, monkeypatch):
    same = torch.ones(3, 4)
    terms = losses_of(Outputs(same, same, same), monkeypatch, reading=reading)
    assert terms["contrastive"].item() == pytest.approx(math.log(3))
    assert (terms["image_spread"], terms["gene_spread"]) == (0, 0)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_only_the_total_is_differentiable(options):
    terms = small(**options).loss(small_batch())
    assert [name for name, value in terms.items() if value.requires_grad] == ["total"]
    assert all(value.shape == () for value in terms.values())


# Which loss moves what


def backward(which, **options):
    """Gradients of one of the two terms of the total, the other being a constant."""
    model, constant = small(**options).train(), torch.ones(8)
    with pytest.MonkeyPatch.context() as patch:
        if which == "contrastive":
            patch.setattr(cmrcnet, "reconstruction_error", lambda *_, **__: torch.ones(()))
        else:
            patch.setattr(cmrcnet, "soft_contrastive", lambda *_, **__: (constant, constant))
        model.loss(small_batch(8))["total"].backward()
    return gradients(model)


CONTRASTIVE_PARTS = ("image_encoder", "image_projection", "gene_projection")
BRANCH_PARTS = ("image_encoder", "image_latent", "gene_tokens", "first_attention", "fusion")


@pytest.mark.parametrize(
    ("which", "options", "parts"),
    [
        ("contrastive", {}, CONTRASTIVE_PARTS),
        ("contrastive", {"reconstruction": "expression"}, CONTRASTIVE_PARTS),
        ("contrastive", {"reconstruction": "none"}, CONTRASTIVE_PARTS),
        # The released loss never moves the gene encoder of the retrieval, the mirrored one never the image projection.
        ("reconstruction", {}, (*BRANCH_PARTS, "image_projection")),
        ("reconstruction", {"reconstruction_loss": "cosine"}, (*BRANCH_PARTS, "image_projection")),
        ("reconstruction", {"reconstruction": "expression"}, (*BRANCH_PARTS, "gene_projection")),
        # Both projections are reached through the target alone.
        ("reconstruction", {"detach_target": True}, BRANCH_PARTS),
        ("reconstruction", {"reconstruction": "expression", "detach_target": True}, BRANCH_PARTS),
    ],
)
def test_each_loss_reaches_its_own_parts_and_no_other(which, options, parts):
    for name, gradient in backward(which, **options).items():
        assert gradient is (True if name.startswith(parts) else None), name


def test_detached_target_leaves_the_image_projection_to_the_contrastive_loss():
    """The reconstruction's gradient on the projection head is total minus contrastive, on the same dropout and mask."""

    def head_gradient(**options):
        model = small(**options)
        torch.manual_seed(3)
        model.loss(small_batch(8))["total"].backward()
        return model.image_projection.project.weight.grad

    model = small()
    torch.manual_seed(3)
    outputs = model(small_batch(8))
    balance(combine(*soft_contrastive(outputs.image, outputs.gene))).backward()
    contrastive_only = model.image_projection.project.weight.grad
    torch.testing.assert_close(head_gradient(detach_target=True), contrastive_only)
    assert not torch.allclose(head_gradient(), contrastive_only)


@pytest.mark.parametrize("spots", [3, 4, 50])
@pytest.mark.parametrize("modality", ["images", "expression"])
@pytest.mark.parametrize("reconstruction", ["image", "expression"])
def test_no_spot_sees_another(spots, modality, reconstruction):
    """A batch as large as the number of image tokens (50) or gene tokens (4) would hide exchanged axes."""
    model = small(image_size=224, reconstruction=reconstruction).double().eval()
    batch = small_batch(spots, size=224)
    batch = Batch(batch.images.double(), batch.expression.double())
    changed = getattr(batch, modality).clone()
    changed[1] += torch.rand(changed[1].shape, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        before = model(batch, seeded(2))
        after = model(batch._replace(**{modality: changed}), seeded(2))
    others = torch.arange(spots) != 1
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[others], new[others])
    assert not torch.equal(before.reconstructed[1], after.reconstructed[1])


# The mirrored branch


def branch_with(model, latent, genes, seed):
    """F_r, with the given latent image tokens (B, T, D) and gene tokens (B, S, D) in place of the batch's own."""
    handles = [
        model.image_latent.register_forward_hook(lambda *_: latent),
        model.gene_tokens.register_forward_hook(lambda *_: genes),
    ]
    with torch.no_grad():
        reconstructed = model(small_batch(len(latent)), seeded(seed)).reconstructed
    for handle in handles:
        handle.remove()
    return reconstructed


@pytest.mark.parametrize("granularity", ["element", "token"])
def test_reconstructing_the_expression_exchanges_image_and_gene_tokens(granularity):
    """The weights being equal, each variant does with one modality's tokens what the other does with the other's."""
    by_image = small(mask_granularity=granularity).eval()
    by_gene = small(mask_granularity=granularity, reconstruction="expression").eval()
    fifty, eight = torch.randn(3, 50, 32, generator=seeded(3)), torch.randn(3, 8, 32, generator=seeded(4))
    expected = branch_with(by_image, latent=fifty, genes=eight, seed=5)
    assert torch.equal(branch_with(by_gene, latent=eight, genes=fifty, seed=5), expected)
    assert not torch.allclose(branch_with(by_gene, latent=fifty, genes=eight, seed=5), expected)


def test_every_ablation_starts_from_the_weights_of_the_complete_network():
    complete = small().state_dict()
    for options in ABLATIONS:
        for name, weights in small(**options).state_dict().items():
            assert torch.equal(weights, complete[name]), name


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_no_ablation_shows_the_embeddings_the_other_modality(options):
    model, batch = small(**options).eval(), small_batch()
    with torch.no_grad():
        one, other_genes, other_images = (
            model(given, seeded(2))
            for given in (
                batch,
                batch._replace(expression=batch.expression + 1),
                batch._replace(images=batch.images + 1),
            )
        )
    assert torch.equal(other_genes.image, one.image)
    assert torch.equal(other_images.gene, one.gene)
    if one.reconstructed is not None:
        assert not torch.equal(other_genes.reconstructed, one.reconstructed)
        assert not torch.equal(other_images.reconstructed, one.reconstructed)


# Mask and dropout


def masked_tokens(model, batch, generator=None):
    """Tokens of the masked modality before and after masking."""
    seen = []
    source = model.image_latent if model.options.reconstruction == "image" else model.gene_tokens
    handles = [
        source.register_forward_hook(lambda _, __, output: seen.append(output)),
        model.first_attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])),
    ]
    with torch.no_grad():
        model(batch, generator)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("granularity", ["element", "token"])
@pytest.mark.parametrize("reconstruction", ["image", "expression"])
def test_masked_fraction_is_the_fraction_set_to_zero_and_nothing_is_rescaled(reconstruction, granularity, fraction):
    model = small(reconstruction=reconstruction, mask_granularity=granularity, masked_fraction=fraction)
    tokens, masked = masked_tokens(model, small_batch(256))
    zero = masked == 0
    assert tokens.all()
    assert torch.equal(masked[~zero], tokens[~zero])
    draws = tokens.numel() if granularity == "element" else tokens[..., 0].numel()
    assert zero.float().mean().item() == pytest.approx(fraction, abs=4 * math.sqrt(0.25 / draws))
    if fraction:
        per_token = zero.float().mean(dim=-1)
        if granularity == "element":
            assert ((per_token > 0) & (per_token < 1)).float().mean() > 0.9  # single values, not whole tokens
        else:
            assert set(per_token.unique().tolist()) == {0, 1}
            assert len(per_token.unique(dim=0)) > 8  # each spot has a draw of its own


@pytest.mark.parametrize("granularity", ["element", "token"])
@pytest.mark.parametrize("reconstruction", ["image", "expression"])
def test_masked_values_never_reach_the_reconstruction(reconstruction, granularity):
    """Neither as a query nor, unmasked, as a key or value: F_r has no slope along any of them."""
    model = small(reconstruction=reconstruction, mask_granularity=granularity).eval()
    seen = []
    source = model.image_latent if reconstruction == "image" else model.gene_tokens
    source.register_forward_hook(lambda _, __, output: seen.append(output))
    model.first_attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reconstructed = model(small_batch(), seeded(2)).reconstructed
    tokens, masked = seen
    (slope,) = torch.autograd.grad(reconstructed.square().sum(), tokens)
    assert not slope[masked == 0].any()
    assert slope[masked != 0].bool().float().mean() > 0.9


@pytest.mark.parametrize("reconstruction", ["image", "expression"])
def test_mask_is_drawn_in_evaluation_too_and_moves_only_the_reconstruction(reconstruction):
    model, batch = small(reconstruction=reconstruction).eval(), small_batch()
    with torch.no_grad():
        one, again, other = (model.loss(batch, seeded(seed)) for seed in (5, 5, 6))
    assert one == again
    assert one["contrastive"] == other["contrastive"]
    assert one["reconstruction"] != other["reconstruction"]


def test_seeded_mask_leaves_the_global_generator_alone():
    model, batch = small().eval(), small_batch()
    before = torch.random.get_rng_state()
    model.loss(batch, seeded(5))
    assert torch.equal(before, torch.random.get_rng_state())


def test_mask_is_the_only_draw_in_evaluation():
    """Seeding, then keeping uniform draws below .5, as the released code does, predicts the mask."""
    model, batch = small().eval(), small_batch()
    torch.manual_seed(11)
    latent, masked = masked_tokens(model, batch)
    torch.manual_seed(11)
    assert torch.equal(masked, latent * (torch.rand(latent.shape) < 0.5))


def test_dropouts_are_the_released_ones():
    found = {
        name: (type(module).__name__, module.p)
        for name, module in unbuilt().named_modules()
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    }
    assert found == {
        "image_projection.dropout": ("Dropout", 0.1),
        "gene_projection.dropout": ("Dropout", 0.1),
        "gene_tokens.dropout": ("AlphaDropout", 0.25),
        "fusion.0.image_block.attn.proj_drop": ("Dropout", 0.1),
        "fusion.0.image_block.mlp.drop1": ("Dropout", 0.1),
        "fusion.0.image_block.mlp.drop2": ("Dropout", 0.1),
        "fusion.0.cross_attention.query.2": ("Dropout", 0.25),
        "fusion.0.cross_attention.key.2": ("Dropout", 0.25),
    }
    assert unbuilt().first_attention.dropout == 0


# Interface


def test_embeddings_are_those_of_the_loss_and_not_normalised():
    model, batch = small().eval(), small_batch()
    with torch.no_grad():
        outputs = model(batch)
        image, gene = model.embed_images(batch.images), model.embed_expression(batch.expression)
    assert torch.equal(image, outputs.image)
    assert torch.equal(gene, outputs.gene)
    torch.testing.assert_close(image.norm(dim=1), torch.full((3,), math.sqrt(32)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_losses_are_float32_and_finite_under_bfloat16_autocast(options):
    model = small(**options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model.loss(small_batch(8))
    terms["total"].backward()
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("options", ABLATIONS, ids=str)
def test_a_few_steps_of_training_lower_the_loss(options):
    model, batch = small(**options), small_batch(8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(30):
        optimiser.zero_grad()
        terms = model.loss(batch)
        terms["total"].backward()
        optimiser.step()
        history.append(terms)
    for name in {"total", "reconstruction"} & set(terms):
        assert history[-1][name] < 0.8 * history[0][name]


def test_readings_set_every_switch():
    released, paper = (CMRCNetOptions(reading=reading).resolved() for reading in ("released", "paper"))
    different = {name for name, value in released if getattr(paper, name) != value}
    assert different == {
        "reading",
        "encoder_depth",
        "encoder_heads",
        "activation",
        "fusion",
        "combination",
        "log",
    }
    assert (released.encoder_depth, released.encoder_heads, released.activation) == (8, 8, "elu")
    assert (paper.encoder_depth, paper.encoder_heads, paper.activation) == (12, 12, "selu")


@pytest.mark.parametrize("published", [False, True])
def test_each_entry_of_the_ablations_changes_one_thing_at_both_sizes(published):
    """The file promises that the published sizes are what is left when its mapping `&small` is emptied."""
    text = ABLATIONS_FILE.read_text(encoding="utf-8")
    if published:
        text, emptied = re.subn(r"options: &small \{.*\}", "options: &small {}", text)
        assert emptied == 1
    methods = yaml.safe_load(text)["methods"]
    given = {name: CMRCNetOptions(**entry["options"]).resolved().model_dump() for name, entry in methods.items()}
    released, paper = given.pop("CMRCNet"), given.pop("CMRCNet-paper")
    if published:
        assert (released, paper) == (
            CMRCNetOptions().resolved().model_dump(),
            CMRCNetOptions(reading="paper").resolved().model_dump(),
        )
    changes = {
        name: {key: value for key, value in options.items() if value != released[key]}
        for name, options in given.items()
    }
    table_5 = [
        {"reconstruction": "none"},
        {"reconstruction_loss": "cosine", "masked_fraction": 0.3},
        {"reconstruction_loss": "cosine"},
        {"reconstruction_loss": "cosine", "masked_fraction": 0.7},
        {"reconstruction_loss": "cosine", "reconstruction": "expression"},
        {"masked_fraction": 0.3},
        {"masked_fraction": 0.7},
        {"reconstruction": "expression"},
    ]
    to_paper = [{key: value} for key, value in paper.items() if value != released[key] and key != "reading"]
    left_open = [{"pairing": "paper"}, {"detach_target": True}, {"mask_granularity": "token"}]
    assert list(changes.values()) == table_5 + to_paper + left_open


def test_a_switch_outweighs_the_reading():
    options = CMRCNetOptions(reading="paper", activation="elu", encoder_depth=3).resolved()
    assert (options.activation, options.encoder_depth, options.encoder_heads) == ("elu", 3, 12)


def test_dropouts_and_heads_are_those_of_the_options():
    model = small(
        projection_dropout=0.11,
        token_dropout=0.12,
        fusion_dropout=0.13,
        cross_dropout=0.14,
        attention_heads=2,
        fusion_heads=4,
    )
    parts = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout | nn.AlphaDropout)}
    of = {"projection": set(), "gene_tokens": set(), "fusion": set()}
    for name, module in parts.items():
        for part, found in of.items():
            found |= {module.p} if part in name else set()
    assert of["projection"] == {0.11}
    assert of["gene_tokens"] == {0.12}
    assert of["fusion"] - {0.0} == {0.13, 0.14}
    assert model.first_attention.num_heads == 2
    assert {block.image_block.attn.num_heads for block in model.fusion} == {4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_heads": 7}, r"encoder_heads: found 7, expected a divisor of encoder_dim \(768\)"),
        ({"encoder_dim": 64, "reading": "paper"}, r"encoder_heads: found 12, expected a divisor of encoder_dim \(64\)"),
        ({"patch_size": 30}, r"patch_size: found 30, expected a divisor of image_size \(224\)"),
        ({"embedding_dim": 36}, r"fusion_heads: found 8, expected a divisor of embedding_dim \(36\)"),
        ({"masked_fraction": 1.5}, "masked_fraction: found 1.5"),
        ({"temperature": 0.0}, "temperature: found 0.0"),
        ({"encoder_depth": -1}, "encoder_depth: found -1"),
        ({"reading": "mine"}, "reading: found 'mine', expected one of released, paper"),
        ({"reconstruction": "both"}, "reconstruction: found 'both', expected one of image, expression, none"),
        ({"reconstruction_loss": "l1"}, "reconstruction_loss: found 'l1', expected one of mse, cosine"),
        ({"pairing": "both"}, "pairing: found 'both', expected one of released, paper"),
        ({"combination": "product"}, "combination: found 'product', expected one of as_reading, average, sum"),
        ({"log": "never"}, "log: found 'never', expected one of as_reading, per_sample, of_mean"),
        ({"mask_granularity": "patch"}, "mask_granularity: found 'patch', expected one of element, token"),
        ({"activation": "relu"}, "activation: found 'relu', expected one of as_reading, elu, selu"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^CMRCNet: {message}"):
        registry.options("CMRCNet", options)
