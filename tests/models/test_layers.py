"""The layers against small worked examples, against per-spot NumPy, and against what they are defined to ignore."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spotwise.models.layers import (
    FusionBlock,
    GeneTokens,
    ProjectionHead,
    ResidualCrossAttention,
    vision_transformer,
)


def normal(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


X, Y, Z = normal(1, 2, 5, 8), normal(2, 2, 3, 8), normal(3, 2, 6)


def worked(module, first_seed):
    """Give a module the weights of the worked examples, .3 x normal with one seed per tensor."""
    module = module.double().eval()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters(), first_seed):
            parameter.copy_(0.3 * normal(seed, *parameter.shape))
    return module


def agrees(output, total, squares, first, last):
    rows = output.detach().flatten(0, -2)
    np.testing.assert_allclose(rows[0], first, rtol=0, atol=6e-7)
    np.testing.assert_allclose(rows[-1], last, rtol=0, atol=6e-7)
    np.testing.assert_allclose([rows.sum(), rows.square().sum()], [total, squares], rtol=0, atol=6e-7)


def test_first_attention_matches_the_worked_example():
    attention = worked(nn.MultiheadAttention(8, 2, batch_first=True), 100)
    output, _ = attention(X, Y, Y, need_weights=False)
    agrees(
        output,
        19.617382,
        79.416050,
        [-0.105317, -0.534897, -0.008407, -1.562533, 1.438139, -0.711227, 1.865850, 0.858421],
        [0.293174, -0.948385, 0.877971, -0.405793, 0.913909, 0.118909, 0.901018, 0.784438],
    )


def test_residual_cross_attention_matches_the_worked_example():
    agrees(
        worked(ResidualCrossAttention(8, 2, 0.25), 200)(X, Y),
        8.301478,
        46.129924,
        [-0.715053, -0.019856, -0.601255, -0.278066, 0.583872, 0.471891, -0.267199, 0.443072],
        [-0.862367, -0.357851, -0.835164, -0.233858, 0.339113, 1.440894, 0.549786, 0.728028],
    )


def test_projection_head_matches_the_worked_example():
    agrees(
        worked(ProjectionHead(6, 4, 0.1), 300)(Z),
        -1.320610,
        1.801286,
        [-0.387808, -0.047348, -0.776190, 0.495781],
        [-0.114164, 0.063689, -0.838318, 0.283748],
    )


def test_gene_tokens_with_elu_match_the_worked_example():
    agrees(
        worked(GeneTokens(6, 1, 8, "elu", 0.25), 400)(Z),
        2.783521,
        5.053167,
        [-0.730963, 0.477179, -0.123107, 0.418948, 0.692073, 0.713015, 1.407589, -0.087112],
        [0.090083, 0.203001, -0.505672, 0.024649, -0.361431, 0.637310, 0.337616, -0.409657],
    )


def test_gene_tokens_with_selu_match_the_worked_example():
    tokens = worked(GeneTokens(6, 1, 8, "selu", 0.25), 400)(Z)
    expected = [-1.285105, 0.501372, -0.216435, 0.440189, 0.727162, 0.749165, 1.478955, -0.153152]
    np.testing.assert_allclose(tokens[0, 0].detach(), expected, rtol=0, atol=6e-7)


def test_gene_tokens_cut_the_channels_in_order():
    one, four = (worked(GeneTokens(6, tokens, 8 // tokens, "elu", 0.25), 400)(Z) for tokens in (1, 4))
    assert four.shape == (2, 4, 2)
    assert torch.equal(four.flatten(1), one.flatten(1))


def slow_cross_attention(module, x, y, heads):
    """Residual cross-attention of one spot, head by head."""
    weights = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    query, key = np.maximum(linear("query.0", x), 0), np.maximum(linear("key.0", y), 0)
    own, other = linear("own_value", query), linear("value", key)
    width = x.shape[1] // heads
    output = np.empty_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(width))
        output[:, part] = own[:, part] + scores / scores.sum(axis=1, keepdims=True) @ other[:, part]
    return output


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_batched_cross_attention_equals_one_spot_at_a_time(heads):
    module = worked(ResidualCrossAttention(8, heads, 0.25), 500)
    batched = module(X, Y).detach().numpy()
    for spot in range(len(X)):
        np.testing.assert_allclose(batched[spot], slow_cross_attention(module, X[spot].numpy(), Y[spot].numpy(), heads))


def test_fusion_adds_cross_attention_last_without_a_norm():
    block = worked(FusionBlock(8, 2, 0.1, 0.25), 600)
    state = dict(block.image_block.named_modules())
    inner = X + state["attn"](state["norm1"](X))
    inner = inner + state["mlp"](state["norm2"](inner))
    torch.testing.assert_close(block(X, Y), inner + block.cross_attention(inner, Y))


def changed(function, x, y, *, image=None, gene=None):
    """Which tokens (spot, token) of the output change when one token of spot 1 does."""
    before = function(x, y)
    x, y = x.clone(), y.clone()
    if image is not None:
        x[1, image, 0] += 1  # one channel: layer norm would take a shift of all of them out again
    if gene is not None:
        y[1, gene, 0] += 1
    return (function(x, y) != before).any(dim=-1)


@pytest.mark.parametrize("spots", [3, 50])
@pytest.mark.parametrize("kind", ["first", "fusion", "residual"])
def test_attention_stays_within_one_spot(kind, spots):
    """With 50 tokens, a batch of 50 would hide a swap of the batch and token axes from shape checks."""
    torch.manual_seed(0)
    x, y = torch.randn(spots, 50, 16).double(), torch.randn(spots, 8, 16).double()
    if kind == "first":
        attention = nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
        function, spreads = lambda x, y: attention(x, y, y, need_weights=False)[0], False
    elif kind == "fusion":
        function, spreads = FusionBlock(16, 8, 0.1, 0.25).double().eval(), True
    else:
        function, spreads = ResidualCrossAttention(16, 8, 0.25).double().eval(), False
    with torch.no_grad():
        by_image, by_gene = changed(function, x, y, image=7), changed(function, x, y, gene=3)
    assert by_image[1].sum() == (50 if spreads else 1)
    assert by_gene[1].sum() == 50
    others = torch.arange(spots) != 1
    assert not by_image[others].any()
    assert not by_gene[others].any()


def test_encoder_returns_fifty_tokens_and_averages_all_of_them():
    tokens, pooled = (vision_transformer(224, 32, 32, 2, 4, pool=pool).eval() for pool in ("", "avg"))
    pooled.load_state_dict(tokens.state_dict(), strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert tokens(images).shape == (2, 50, 32)
        torch.testing.assert_close(pooled(images), tokens(images).mean(dim=1))


def test_encoder_starts_from_the_released_initialisation():
    torch.manual_seed(0)
    encoder = vision_transformer(224, 32, 768, 1, 8)
    convolution = encoder.patch_embed.proj
    assert convolution.weight.std().item() == pytest.approx((2 / (768 * 32 * 32)) ** 0.5, rel=0.01)
    assert not convolution.bias.any()
    for linear in (module for module in encoder.modules() if isinstance(module, nn.Linear)):
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not linear.bias.any()
    for embedding in (encoder.cls_token, encoder.pos_embed):
        assert embedding.std().item() == pytest.approx(0.02, rel=0.1)


def test_norms_have_the_released_epsilons():
    def epsilons(module):
        return {norm.eps for norm in module.modules() if isinstance(norm, nn.LayerNorm)}

    assert epsilons(vision_transformer(64, 32, 32, 2, 4)) == {1e-6}
    assert epsilons(FusionBlock(16, 8, 0.1, 0.25)) == {1e-5}
    assert epsilons(ProjectionHead(8, 4, 0.1)) == {1e-5}
