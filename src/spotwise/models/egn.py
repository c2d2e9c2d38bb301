"""EGN: exemplar-guided network (Yang et al., WACV 2023), version 1 of the released code.

A vision transformer encodes the spot's image. Exemplars are the training spots most similar in the features of a frozen
encoder. Every few layers a bridging block gates each image token by the exemplars and their expression.

Shapes: B spots, T image tokens, K exemplars, D channels, F frozen features, G genes.
"""

from __future__ import annotations

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import Method
from spotwise.models.batch import Batch, Exemplars
from spotwise.models.egn_options import EGNOptions
from spotwise.models.losses import at_least_float32
from spotwise.models.sizes import Sizes

# Width of the hidden layer that compares query and exemplars, in channels of a bridge head
COMPARISON_HEADS = 4
# Of the pooling: factor of the scores before their softmax, and weight of the attended scores
POOL_SHARPNESS, POOL_SHARE = 0.1, 0.5
# Keeps the correlation finite for a constant gene
EPSILON = 1e-8


class EGN(Method):
    """Vision transformer with exemplar bridging blocks, and a linear head on its pooled tokens and the query.

    Follows the released code where the paper differs: exemplars by a frozen encoder instead of one trained under a
    StyleGAN decoder, exemplar expression the same in every block, the query's residual from before the update, layer
    norm on updated exemplars, 0.5 on the correlation. Its differences from the released code are listed in
    ``docs/methods.md``.
    """

    def __init__(self, n_genes: int, n_features: int, options: EGNOptions):
        super().__init__(options)
        dim = options.dim
        self.patch_embedding = nn.Conv2d(3, dim, kernel_size=options.patch_size, stride=options.patch_size)
        self.position = nn.Parameter(torch.randn(1, options.tokens, dim))
        self.projector = Projector(n_genes, n_features, dim, options.projector_layers)
        self.layers = nn.ModuleList(
            Layer(options, bridged=number % options.bridge_every == 0, last=number == options.depth)
            for number in range(1, options.depth + 1)
        )
        self.pool = AttentivePool(dim)
        self.head = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, n_genes))

    @classmethod
    def of(cls, sizes: Sizes, options: EGNOptions) -> EGN:
        """Create a freshly initialised network for the genes and the width of the frozen features."""
        return cls(sizes.genes, sizes.features, options)

    def predict(self, batch: Batch) -> Tensor:
        """Predict the expression (B, G) of spots from their images and exemplars."""
        query, exemplars, values = self.projector(batch.exemplars)
        # Added here and before every attention; drawn with standard deviation 1, as released
        tokens = self.patch_embedding(batch.images).flatten(2).transpose(1, 2) + self.position  # (B, T, D)
        for layer in self.layers:
            tokens, query, exemplars = layer(tokens, self.position, query, exemplars, values)
        return self.head(torch.cat((self.pool(tokens), query.squeeze(1)), dim=-1))

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the squared error plus one minus the correlation over the batch, averaged over genes.

        Both parts are monitored, as ``mse`` and ``pearson``.
        """
        predicted, observed = at_least_float32(self.predict(batch)), at_least_float32(batch.expression)
        mse = functional.mse_loss(predicted, observed)
        pearson = batch_correlation(predicted, observed).mean()
        return {
            "total": mse + self.options.correlation_weight * (1 - pearson),
            "mse": mse.detach(),
            "pearson": pearson.detach(),
        }


def batch_correlation(predicted: Tensor, observed: Tensor) -> Tensor:
    """Compute the Pearson correlation (G,) of each gene over a batch (B, G), 0 where either is constant."""
    predicted, observed = predicted - predicted.mean(dim=0), observed - observed.mean(dim=0)
    norms = torch.linalg.vector_norm(predicted, dim=0) * torch.linalg.vector_norm(observed, dim=0)
    return (predicted * observed).sum(dim=0) / (norms + EPSILON)


class Projector(nn.Module):
    """Projection of frozen features and expression to tokens of D channels.

    Query and exemplars share ``depth`` residual layers.
    """

    def __init__(self, n_genes: int, n_features: int, dim: int, depth: int):
        super().__init__()
        self.query = nn.Linear(n_features, dim)
        self.exemplars = nn.Linear(n_features + n_genes, dim)
        self.values = nn.Linear(n_genes, dim)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(dim), Mlp(dim, dim)) for _ in range(depth))

    def forward(self, given: Exemplars) -> tuple[Tensor, Tensor, Tensor]:
        """Return query (B, 1, D), exemplars (B, K, D) and the values of their expression (B, K, D)."""
        described = torch.cat((given.keys, given.expression), dim=-1)  # (B, K, F + G)
        x = torch.cat((self.query(given.query).unsqueeze(1), self.exemplars(described)), dim=1)  # (B, 1 + K, D)
        for layer in self.layers:
            x = x + layer(x)
        return x[:, :1], x[:, 1:], self.values(given.expression)


class Layer(nn.Module):
    """Pre-norm transformer layer with position-aware attention and, where ``bridged``, a bridging block.

    It is the ``last`` where no later layer has one.
    """

    def __init__(self, options: EGNOptions, bridged: bool, last: bool):
        super().__init__()
        dim = options.dim
        self.attention = nn.Sequential(nn.LayerNorm(dim), Attention(dim, options.heads))
        self.bridge = Bridge(options, last) if bridged else None
        self.mlp = nn.Sequential(nn.LayerNorm(dim), Mlp(dim, options.mlp_dim))

    def forward(
        self, tokens: Tensor, position: Tensor, query: Tensor, exemplars: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return updated tokens (B, T, D), query (B, 1, D) and exemplars (B, K, D)."""
        tokens = tokens + self.attention(tokens + position)
        if self.bridge is not None:
            tokens, query, exemplars = self.bridge(tokens, query, exemplars, values)
        return tokens + self.mlp(tokens), query, exemplars


class Bridge(nn.Module):
    """Exemplar bridging block, in which the updated query gates every token by one number per head."""

    def __init__(self, options: EGNOptions, last: bool):
        super().__init__()
        dim, inner = options.dim, options.bridge_heads * options.bridge_head_dim
        self.heads = options.bridge_heads
        self.update = ExemplarUpdate(dim, COMPARISON_HEADS * options.bridge_head_dim, last)
        self.gate = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, self.heads * options.tokens))
        self.content = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner))
        self.to_tokens = nn.Linear(inner, dim, bias=False)
        self.to_query = nn.Linear(inner, dim, bias=False)

    def forward(
        self, tokens: Tensor, query: Tensor, exemplars: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return updated tokens (B, T, D), query (B, 1, D) and exemplars (B, K, D)."""
        updated, exemplars = self.update(query, exemplars, values)
        gate = self.gate(updated).sigmoid().unflatten(-1, (self.heads, -1)).transpose(1, 3)  # (B, T, heads, 1)
        content = self.content(tokens).unflatten(-1, (self.heads, -1))  # (B, T, heads, channels)
        gated = (gate * content).flatten(2)
        # The updated query only computes the gates (paper: it is the residual, too)
        return tokens + self.to_tokens(gated), query + self.to_query(gated.mean(dim=1, keepdim=True)), exemplars


class ExemplarUpdate(nn.Module):
    """Exchange between query and exemplars, which both receive gated values of the exemplars' expression.

    In the ``last`` block, no later one of which reads the exemplars, these stay unchanged.
    """

    def __init__(self, dim: int, hidden: int, last: bool):
        super().__init__()
        self.compare = nn.Sequential(nn.Linear(2 * dim, hidden), nn.SiLU())
        self.value = nn.Linear(dim, dim)
        self.query_gate = nn.Linear(hidden, dim)
        self.exemplar_gate = None if last else nn.Linear(hidden, dim)
        self.norm = None if last else nn.LayerNorm(dim)

    def forward(self, query: Tensor, exemplars: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated query (B, 1, D) and exemplars (B, K, D)."""
        compared = self.compare(torch.cat((query - exemplars, exemplars), dim=-1))  # (B, K, hidden)
        values = self.value(values)
        updated = query + (self.query_gate(compared).sigmoid() * values).mean(dim=1, keepdim=True)
        if self.norm is None:
            return updated, exemplars
        return updated, self.norm(exemplars + self.exemplar_gate(compared).sigmoid() * values)


class AttentivePool(nn.Module):
    """Class-specific residual attention (Zhu and Wu, ICCV 2021)."""

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool (B, T, D) to (B, D)."""
        score = self.score(tokens)
        weight = functional.softmax(POOL_SHARPNESS * score, dim=1)
        return score.mean(dim=1) + POOL_SHARE * (weight * score).sum(dim=1)
