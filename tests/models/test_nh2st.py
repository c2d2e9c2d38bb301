"""NH2ST: its parameters, hypergraphs, fusions and losses, and that it predicts from the query patch alone."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from spotwise.errors import InputError
from spotwise.models import nh2st, registry
from spotwise.models.batch import Batch, Context, Neighbours
from spotwise.models.nh2st import (
    NH2ST,
    CrossAttention,
    Fusion,
    HypergraphEncoder,
    NH2STOptions,
    incidence,
    pair_contrast,
    propagation,
)

SMALL = {
    "encoder": "test_byobnet",
    "pretrained": "no",
    "image_size": 64,
    "neighbours": 5,
    "hyperedge_nearest": 2,
    "dim": 32,
    "hypergraph_hidden": 48,
    "decoder_hidden": 16,
    "fusion_heads": 4,
    "fusion_hidden": 32,
    "dropout": 0.1,
}
N_GENES = 20


def n_parameters(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def unbuilt(n_genes=250, **options):
    with torch.device("meta"):
        return NH2ST(n_genes, NH2STOptions(**{"pretrained": "no", **options}))


def small(**options):
    torch.manual_seed(0)
    return NH2ST(N_GENES, NH2STOptions(**{**SMALL, **options}))


def a_batch(spots=4, size=64, neighbours=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    around = Neighbours(
        torch.randn(spots, neighbours, 3, size, size, generator=generator),
        3 * torch.rand(spots, neighbours, N_GENES, generator=generator),
    )
    images = torch.randn(spots, 3, size, size, generator=generator)
    return Batch(images, 3 * torch.rand(spots, N_GENES, generator=generator), neighbours=around)


# Sizes


def test_parameters_are_the_released_ones_without_the_dead_heads():
    model = unbuilt()
    assert n_parameters(model) == 53_965_346 - 4 * (512 * 250 + 250)
    assert {name: n_parameters(part) for name, part in model.named_children()} == {
        "trunk": 11_176_512,
        "image_projection": 12_845_568,
        "gene_encoder": 391_168,
        "image_hypergraph": 26_215_936,
        "gene_hypergraph": 1_050_112,
        "fusion": 1_577_472,
        "decoder": 195_578,
    }


def test_prediction_uses_the_released_number_of_parameters():
    model = unbuilt()
    assert n_parameters(model.trunk, model.image_projection, model.decoder) == 24_217_658


def test_fusion_at_the_constructors_defaults_has_the_released_parameters():
    assert n_parameters(unbuilt(fusion_depth=2, fusion_hidden=1024).fusion) == 4_203_520


@pytest.mark.parametrize(("image_size", "values"), [(224, 512 * 7 * 7), (64, 512 * 2 * 2)])
def test_projection_fits_the_map_of_the_image_size(image_size, values):
    assert unbuilt(image_size=image_size).image_projection.in_features == values


def test_parameters_beside_the_trunk_follow_the_general_count():
    model = small()
    assert model.image_projection.in_features == 1024
    assert n_parameters(model) - n_parameters(model.trunk) == 95_748


def test_measuring_the_map_leaves_the_trunk_as_it_was():
    model = small()
    assert all(module.training for module in model.modules())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 0 for norm in norms)


@pytest.mark.parametrize("spots", [1, 8])
def test_codes_keep_one_row_per_spot(spots):
    model, batch = small(), a_batch(spots)
    assert model.encode_images(batch.images).shape == (spots, 32)
    image, gene = model.encode_neighbourhoods(batch.neighbours)
    assert image.shape == gene.shape == (spots, 32)
    assert model.predict(batch).shape == (spots, N_GENES)
    assert all(value.ndim == 0 and value.isfinite() for value in model.loss(batch).values())


def test_context_asks_for_the_neighbourhoods_of_the_options():
    assert NH2STOptions().context == Context(image_px=224, neighbours=9)
    assert NH2STOptions(**SMALL).context == Context(image_px=64, neighbours=5)


# Prediction


def test_prediction_knows_neither_expression_nor_neighbours():
    model, batch, other = small().eval(), a_batch(), a_batch(seed=2)
    with torch.inference_mode():
        expected = model.predict(batch._replace(expression=None, neighbours=None))
        for shown in (batch, batch._replace(expression=other.expression), batch._replace(neighbours=other.neighbours)):
            assert torch.equal(model.predict(shown), expected)
        assert not torch.allclose(model.predict(batch._replace(images=other.images)), expected)


@pytest.mark.parametrize(("part", "width"), [("gene_encoder", N_GENES), ("decoder", 32)])
def test_gene_encoder_and_decoder_are_affine(part, width):
    network = getattr(small(), part)
    one, other = torch.randn(2, 6, width)
    with torch.no_grad():
        torch.testing.assert_close(network((one + other) / 2), (network(one) + network(other)) / 2)


def test_decoder_learns_from_the_squared_error_alone():
    model, batch = small(), a_batch()
    model.loss(batch)["total"].backward()
    learned = [parameter.grad.clone() for parameter in model.decoder.parameters()]
    model.zero_grad()
    functional.mse_loss(model.predict(batch), batch.expression).backward()
    torch.testing.assert_close(learned, [parameter.grad for parameter in model.decoder.parameters()])
    assert all(part.grad is None for part in (*model.gene_encoder.parameters(), *model.fusion.parameters()))


def test_prediction_uses_trunk_projection_and_decoder():
    model = small()
    model.predict(a_batch()).sum().backward()
    used = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert used == {"trunk", "image_projection", "decoder"}


class PlainTrunk(nn.Sequential):
    """Stands for a timm model: one convolution, for a training of many steps."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 16, 8, stride=8), nn.BatchNorm2d(16), nn.ReLU())

    def forward_features(self, images):
        return self(images)


def test_training_finds_a_planted_link_between_colour_and_genes(monkeypatch):
    monkeypatch.setattr(nh2st, "timm_encoder", lambda name, pretrained, method: (PlainTrunk(), False))
    generator = torch.Generator().manual_seed(0)

    def coloured(*shape):
        colour = torch.randn(*shape, 3, generator=generator)
        noise = 0.3 * torch.randn(*shape, 3, 32, 32, generator=generator)
        genes = torch.where(torch.arange(N_GENES) < N_GENES // 2, colour[..., :1], colour[..., 2:])  # red, blue
        return colour[..., None, None] + noise, genes

    def spots(many):
        images, genes = coloured(many)
        return Batch(images, genes, neighbours=Neighbours(*coloured(many, 5)))

    model = small(image_size=32)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(spots(8))["total"].backward()
        optimiser.step()
    unseen = spots(64)
    with torch.inference_mode():
        error = functional.mse_loss(model.eval().predict(unseen), unseen.expression)
    assert error < unseen.expression.var() / 4


# Neighbourhoods


def test_hyperedges_are_each_node_with_the_most_similar_others():
    nodes = torch.randn(6, 9, 30, generator=torch.Generator().manual_seed(0)).relu()
    on = incidence(nodes, 3)
    assert torch.equal(on.sum(dim=(1, 2)), torch.full((6,), 36.0))
    for neighbourhood, start in itertools.product(range(6), range(9)):

        def similarity(other, x=nodes[neighbourhood], start=start):
            return functional.cosine_similarity(x[start], x[other], dim=0)

        others = sorted(set(range(9)) - {start}, key=similarity, reverse=True)
        assert set(on[neighbourhood, :, start].nonzero()[:, 0].tolist()) == {start, *others[:3]}


@pytest.mark.parametrize("alike", [torch.ones(1, 9, 4), torch.zeros(1, 9, 4), -torch.eye(9)[None]])
def test_hyperedges_of_nodes_that_all_look_alike_still_hold_four_with_their_own(alike):
    on = incidence(alike, 3)
    assert on.sum(dim=1).eq(4).all()
    assert on.diagonal(dim1=1, dim2=2).eq(1).all()


def test_hypergraph_network_equals_messages_sent_one_by_one():
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(2, 7, 6, generator=generator)
    on = incidence(nodes, 2)
    assert len(on.sum(dim=2).unique()) > 1  # nodes are on unlike numbers of hyperedges
    encoder = HypergraphEncoder(6, 5, 4)
    for layer in encoder.layers:
        nn.init.normal_(layer.bias)

    def convolved(x, edges, layer):
        mixed = torch.zeros_like(x)
        for node in range(len(x)):
            mine = [edge for edge in edges if node in edge]
            for edge in mine:
                mixed[node] += sum(x[member] for member in edge) / len(edge) / len(mine)
        return (mixed @ layer.weight.T + layer.bias).clamp(min=0)

    with torch.no_grad():
        found = encoder(nodes, propagation(on))
        for neighbourhood in range(2):
            edges = [set(column.nonzero()[:, 0].tolist()) for column in on[neighbourhood].T]
            x = convolved(convolved(nodes[neighbourhood], edges, encoder.layers[0]), edges, encoder.layers[1])
            torch.testing.assert_close(found[neighbourhood], x.mean(dim=0))


def test_hypergraph_network_starts_with_glorots_weights_and_no_bias():
    for layer in HypergraphEncoder(60, 50, 40).layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_propagation_of_uneven_hyperedges_equals_the_formula():
    on = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 1.0]])
    node_degrees, edge_sizes = on.sum(dim=1).diag(), on.sum(dim=0).diag()
    expected = node_degrees.inverse() @ on @ edge_sizes.inverse() @ on.T
    torch.testing.assert_close(propagation(on[None])[0], expected)


def test_both_modalities_of_a_neighbourhood_share_the_hyperedges_of_its_images():
    model, batch = small().eval(), a_batch()
    with torch.no_grad():
        maps = torch.stack([model.trunk.forward_features(images).flatten(1) for images in batch.neighbours.images])
        mixing = propagation(incidence(maps, 2))
        _, gene = model.encode_neighbourhoods(batch.neighbours)
        torch.testing.assert_close(gene, model.gene_hypergraph(model.gene_encoder(batch.neighbours.expression), mixing))


def test_order_of_the_neighbours_does_not_matter():
    model, around = small().eval(), a_batch().neighbours
    order = torch.tensor([0, 3, 1, 4, 2])
    with torch.no_grad():
        turned = model.encode_neighbourhoods(Neighbours(around.images[:, order], around.expression[:, order]))
        torch.testing.assert_close(turned, model.encode_neighbourhoods(around))


def test_batch_normalisation_sees_each_neighbourhood_by_itself():
    model, around = small().train(), a_batch().neighbours
    with torch.no_grad():
        image, gene = model.encode_neighbourhoods(around)
        for spot in range(len(image)):
            alone = model.encode_neighbourhoods(Neighbours(*(shown[spot : spot + 1] for shown in around)))
            torch.testing.assert_close(alone, (image[spot : spot + 1], gene[spot : spot + 1]))


# Fusion


def test_cross_attention_equals_torchs():
    torch.manual_seed(0)
    attention = CrossAttention(16, 4, dropout=0.0)
    nn.init.normal_(attention.norm.weight)
    nn.init.normal_(attention.norm.bias)
    x, y = torch.randn(3, 2, 16), torch.randn(3, 5, 16)
    with torch.no_grad():
        expected, _ = functional.multi_head_attention_forward(
            *(attention.norm(tokens).transpose(0, 1) for tokens in (x, y, y)),
            embed_dim_to_check=16,
            num_heads=4,
            in_proj_weight=torch.cat([attention.query.weight, attention.key_value.weight]),
            in_proj_bias=None,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=attention.out[0].weight,
            out_proj_bias=attention.out[0].bias,
        )
        torch.testing.assert_close(attention(x, y), x + expected.transpose(0, 1))


def test_attention_to_a_single_key_is_a_linear_map_of_it():
    torch.manual_seed(0)
    fusion = Fusion(16, depth=1, heads=4, hidden=8, dropout=0.0)
    x, y = torch.randn(3, 1, 16), torch.randn(3, 1, 16)
    (attention,), (feed_forward,) = fusion.attentions, fusion.feed_forwards
    with torch.no_grad():
        value = attention.norm(y) @ attention.key_value.weight[16:].T
        z = x + value @ attention.out[0].weight.T + attention.out[0].bias
        torch.testing.assert_close(fusion(x, y), functional.layer_norm(z + feed_forward(z), (16,)))


def test_queries_and_keys_get_no_gradient_and_all_else_does():
    model, batch = small(encoder="test_resnet", fusion_depth=2, dim=128, fusion_heads=2), a_batch(8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts residual branches at 0, behind which no gradient is felt
            nn.init.ones_(module.weight)
    model.loss(batch)["total"].backward()
    for attention in model.fusion.attentions:
        assert not attention.query.weight.grad.any()
        key, value = attention.key_value.weight.grad.chunk(2)
        assert not key.any()
        assert value.any()
    still = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    assert still == {f"fusion.attentions.{layer}.query.weight" for layer in (0, 1)}


def test_one_network_fuses_four_times_and_genes_meet_the_fused_image(monkeypatch):
    model, batch, calls = small().eval(), a_batch(), []

    def recorded(x, y, forward=model.fusion.forward):
        calls.append((x[:, 0], y[:, 0], forward(x, y)[:, 0]))
        return calls[-1][2][:, None]

    monkeypatch.setattr(model.fusion, "forward", recorded)
    with torch.no_grad():
        terms = model.loss(batch)
        codes = [
            (model.encode_images(batch.images), model.gene_encoder(batch.expression)),
            model.encode_neighbourhoods(batch.neighbours),
        ]
    assert len(calls) == 4
    for name, (image, gene), first, second in zip(("patch", "neighbour"), codes, calls[::2], calls[1::2], strict=True):
        torch.testing.assert_close(first[:2], (image, gene))
        torch.testing.assert_close(second[:2], (gene, first[2]))
        torch.testing.assert_close(terms[f"{name}_contrastive"], pair_contrast(first[2], second[2], 0.05, 0.1))


def test_contrast_before_fusion_is_of_the_codes_themselves():
    model, batch = small(contrast_before_fusion=True).eval(), a_batch()
    assert model.fusion is None
    with torch.no_grad():
        terms = model.loss(batch)
        patch = pair_contrast(model.encode_images(batch.images), model.gene_encoder(batch.expression), 0.05, 0.1)
        neighbour = pair_contrast(*model.encode_neighbourhoods(batch.neighbours), 0.05, 0.1)
    torch.testing.assert_close(terms["patch_contrastive"], patch)
    torch.testing.assert_close(terms["neighbour_contrastive"], neighbour)


# Losses


@pytest.mark.parametrize("negative_weight", [0.1, 1.0])
def test_contrast_equals_the_cross_entropy_of_each_image(negative_weight):
    generator = torch.Generator().manual_seed(0)
    image, gene = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)

    def logit(i, j):
        cosine = float(image[i] @ gene[j] / image[i].norm() / gene[j].norm())
        return cosine / 0.05 * (1 if i == j else negative_weight)

    expected = sum(math.log(sum(math.exp(logit(i, j)) for j in range(5))) - logit(i, i) for i in range(5)) / 5
    assert pair_contrast(image, gene, 0.05, negative_weight).item() == pytest.approx(expected, rel=1e-5)


def test_collapsed_codes_cost_nothing_unless_negatives_count_in_full():
    one = torch.randn(1, 6).expand(8, 6)
    assert pair_contrast(one, one, 0.05, 0.1).item() == pytest.approx(math.log1p(7 * math.exp(-18)), abs=2e-7)
    assert pair_contrast(one, one, 0.05, 0.1) < 1e-6
    assert pair_contrast(one, one, 0.05, 1.0).item() == pytest.approx(math.log(8), rel=1e-5)


def test_unrelated_codes_cost_the_logarithm_of_the_batch():
    image, gene = torch.eye(16).split(8)
    assert pair_contrast(image, gene, 0.05, 0.1).item() == pytest.approx(math.log(8), rel=1e-6)


def test_a_single_spot_has_no_contrastive_loss():
    terms = small().loss(a_batch(1))
    assert terms["patch_contrastive"] == 0
    assert terms["neighbour_contrastive"] == 0
    assert terms["total"] == terms["mse"]


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.0, 2.0)])
def test_total_is_the_weighted_sum_and_alone_differentiable(weights):
    patch_weight, neighbour_weight = weights
    model, batch = small(patch_weight=patch_weight, neighbour_weight=neighbour_weight).eval(), a_batch()
    terms = model.loss(batch, torch.Generator().manual_seed(1))
    assert [name for name, value in terms.items() if value.requires_grad] == ["total"]
    assert set(terms) == {"total", "mse", "patch_contrastive", "neighbour_contrastive"}
    parts = terms["mse"] + patch_weight * terms["patch_contrastive"] + neighbour_weight * terms["neighbour_contrastive"]
    torch.testing.assert_close(terms["total"].detach(), parts)
    torch.testing.assert_close(terms["mse"], (model.predict(batch) - batch.expression).square().mean().detach())


def test_published_weights_are_the_defaults():
    published = NH2STOptions()
    assert (published.patch_weight, published.neighbour_weight, published.negative_weight) == (1.0, 0.5, 0.1)


def test_losses_are_float32_under_autocast():
    model, batch = small(dropout=0.0), a_batch()
    exact = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(batch)
    terms["total"].backward()
    assert all(value.dtype == torch.float32 for value in terms.values())
    torch.testing.assert_close(terms["mse"], exact["mse"], rtol=0.05, atol=0)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_autocast_touches_neither_contrast_nor_hyperedges():
    generator = torch.Generator().manual_seed(0)
    codes = 1 + 0.01 * torch.randn(2, 9, 32, generator=generator)  # so similar that their cosines are equal in bfloat16
    exact = pair_contrast(*codes, 0.05, 1.0), incidence(codes, 3)
    with torch.autocast("cpu", torch.bfloat16):
        cast = pair_contrast(*codes, 0.05, 1.0), incidence(codes, 3)
    assert all(map(torch.equal, cast, exact))


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": "maybe"}, "pretrained: found 'maybe', expected one of no, if_available, required"),
        ({"fusion_heads": 7}, r"fusion_heads: found 7, expected a divisor of dim \(512\)"),
        ({"dropout": 1.0}, "dropout: found 1.0"),
        ({"temperature": 0.0}, "temperature: found 0.0"),
        ({"negative_weight": -0.1}, "negative_weight: found -0.1"),
        ({"hyperedge_nearest": 0}, "hyperedge_nearest: found 0"),
        ({"neighbours": 3}, r"neighbours: found 3, expected more than hyperedge_nearest \(3\)"),
        ({"neighbour_weight": -1.0}, "neighbour_weight: found -1.0, expected a number of at least 0"),
    ],
)
def test_options_that_cannot_work_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=f"^NH2ST: {message}"):
        registry.options("NH2ST", options)


def test_an_encoder_that_timm_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"^NH2ST: encoder: found 'resnt18', expected the name of a timm model"):
        small(encoder="resnt18")
