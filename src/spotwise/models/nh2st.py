"""NH2ST: image regression with contrastive losses of spots and their neighbourhoods (MCPathology/NH2ST)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import Method
from spotwise.models.batch import Batch, Neighbours
from spotwise.models.encoders import timm_encoder
from spotwise.models.losses import at_least_float32
from spotwise.models.nh2st_options import NH2STOptions


class NH2ST(Method):
    """Image trunk and linear decoder, trained with contrastive losses beside the squared error.

    The prediction is decoded from the code of the query patch alone: trunk, projection, decoder. Neighbours and input
    expression matter in training only, through the contrastive losses.

    As in the released code, though unusual:

    * The logits of negatives are scaled by 0.1, so that even collapsed codes have next to no contrastive loss.
    * Fused codes are contrasted, each of which holds a copy of its partner.
    * One network does all four fusions. Each attends to a single key, so that queries and keys never learn.
    * Neighbours are not augmented.
    * Batch normalisation is over the query patches of a batch, and over each neighbourhood by itself.

    Its differences from the released code are listed in ``docs/methods.md``.
    """

    def __init__(self, n_genes: int, options: NH2STOptions):
        super().__init__(options)
        dim, hidden = options.dim, options.hypergraph_hidden
        self.trunk, self.pretrained_loaded = timm_encoder(options.encoder, options.pretrained, "NH2ST")
        features = _map_size(self.trunk, options.image_size)
        self.image_projection = nn.Linear(features, dim)
        self.gene_encoder = nn.Sequential(nn.Linear(n_genes, dim), nn.Linear(dim, dim))
        self.image_hypergraph = HypergraphEncoder(features, hidden, dim)
        self.gene_hypergraph = HypergraphEncoder(dim, hidden, dim)
        self.fusion: Fusion | None = None
        if not options.contrast_before_fusion:
            self.fusion = Fusion(
                dim, options.fusion_depth, options.fusion_heads, options.fusion_hidden, options.dropout
            )
        self.decoder = nn.Sequential(nn.Linear(dim, options.decoder_hidden), nn.Linear(options.decoder_hidden, n_genes))

    def training_only(self) -> list[nn.Module]:
        """Return everything but trunk, projection and decoder."""
        parts = [self.gene_encoder, self.image_hypergraph, self.gene_hypergraph]
        return parts if self.options.contrast_before_fusion else [*parts, self.fusion]

    def predict(self, batch: Batch) -> Tensor:
        """Predict expression (B, G) from the images of a batch."""
        return self.decoder(self.encode_images(batch.images))

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as (B, D)."""
        return self.image_projection(self._maps(images))

    def encode_neighbourhoods(self, neighbours: Neighbours) -> tuple[Tensor, Tensor]:
        """Encode images and expression of B neighbourhoods as (B, D) each, over the same hyperedges."""
        # one by one, as batch normalisation is over each neighbourhood by itself
        maps = torch.stack([self._maps(images) for images in neighbours.images])  # (B, n, P)
        mixing = propagation(incidence(maps, self.options.hyperedge_nearest))
        genes = self.gene_encoder(neighbours.expression)  # (B, n, D)
        return self.image_hypergraph(maps, mixing), self.gene_hypergraph(genes, mixing)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error plus both contrastive losses, monitored without their weights."""
        image = self.encode_images(batch.images)
        mse = functional.mse_loss(at_least_float32(self.decoder(image)), batch.expression)
        patch = self._contrast(image, self.gene_encoder(batch.expression))
        neighbour = self._contrast(*self.encode_neighbourhoods(batch.neighbours))
        return {
            "total": mse + self.options.patch_weight * patch + self.options.neighbour_weight * neighbour,
            "mse": mse.detach(),
            "patch_contrastive": patch.detach(),
            "neighbour_contrastive": neighbour.detach(),
        }

    def _maps(self, images: Tensor) -> Tensor:
        """Compute the flattened maps of the trunk (B, P)."""
        return self.trunk.forward_features(images).flatten(1)

    def _contrast(self, image: Tensor, gene: Tensor) -> Tensor:
        if self.fusion is not None:
            image = self.fusion(image[:, None], gene[:, None])[:, 0]
            gene = self.fusion(gene[:, None], image[:, None])[:, 0]  # with the fused image code
        return pair_contrast(image, gene, self.options.temperature, self.options.negative_weight)


@torch.no_grad()
def _map_size(trunk: nn.Module, image_size: int) -> int:
    """Return the number of values P of the trunk's last map."""
    size = trunk.eval().forward_features(torch.zeros(1, 3, image_size, image_size)).numel()
    trunk.train()
    return size


def pair_contrast(image: Tensor, gene: Tensor, temperature: float, negative_weight: float) -> Tensor:
    """Compute the cross-entropy of each image against the genes of its batch.

    Codes are (B, D). The logits are cosines over ``temperature``, those of other spots times ``negative_weight``. One
    direction only, in float32 under autocast, too.
    """
    with torch.autocast(image.device.type, enabled=False):
        image, gene = (functional.normalize(at_least_float32(code), dim=-1) for code in (image, gene))
        own = torch.eye(len(image), dtype=torch.bool, device=image.device)
        logits = image @ gene.T / temperature
        logits = torch.where(own, logits, negative_weight * logits)
        return functional.cross_entropy(logits, torch.arange(len(image), device=image.device))


@torch.no_grad()
def incidence(nodes: Tensor, nearest: int) -> Tensor:
    """Compute the incidence of nodes (B, n, P) with n hyperedges.

    It is float (B, n, n), zeros and ones, nodes by hyperedges. Each node has a hyperedge with itself and the
    ``nearest`` nodes most similar to it by cosine.
    """
    n = nodes.shape[1]
    with torch.autocast(nodes.device.type, enabled=False):
        directions = functional.normalize(at_least_float32(nodes), dim=-1)
        cosine = directions @ directions.mT
    itself = torch.eye(n, dtype=torch.bool, device=nodes.device)
    near = cosine.masked_fill(itself, -torch.inf).topk(nearest, dim=-1).indices  # (B, n, nearest)
    on_edge = (near[..., None] == torch.arange(n, device=nodes.device)).any(dim=-2) | itself  # hyperedges by nodes
    return on_edge.mT.to(cosine.dtype)


def propagation(incidence: Tensor) -> Tensor:
    """Compute the propagation matrix of a hypergraph, D^-1 H B^-1 H^T, whose rows sum to 1.

    H is the incidence (B, nodes, hyperedges), the result (B, nodes, nodes).
    """
    of_node = incidence / incidence.sum(dim=-1, keepdim=True)  # D^-1 H
    of_edge = incidence / incidence.sum(dim=-2, keepdim=True)  # H B^-1
    return of_node @ of_edge.mT


class HypergraphEncoder(nn.Module):
    """Two hypergraph convolutions with ReLU, and the mean over the nodes.

    The convolution, D^-1 H B^-1 H^T X W + b, is that of Bai et al. (Pattern Recognition, 2021) without attention,
    initialised as in PyTorch Geometric.
    """

    def __init__(self, features: int, hidden: int, dim: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(features, hidden), nn.Linear(hidden, dim)])
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, nodes: Tensor, mixing: Tensor) -> Tensor:
        """Encode nodes (B, n, features), with their :func:`propagation` (B, n, n), as (B, dim)."""
        for layer in self.layers:
            nodes = functional.relu(mixing @ layer(nodes))  # the rows of mixing sum to 1, so that the bias stays
        return nodes.mean(dim=1)


class CrossAttention(nn.Module):
    """Residual attention of tokens x to tokens y, both under one layer norm."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Attend from tokens (B, T, D) to tokens (B, S, D), and return (B, T, D)."""
        query = self._split(self.query(self.norm(x)))
        key, value = map(self._split, self.key_value(self.norm(y)).chunk(2, dim=-1))
        # not fused: its rounding would turn the zero gradients of a single key into noise that Adam scales up
        weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
        return x + self.out((weights @ value).transpose(1, 2).flatten(2))


class Fusion(nn.Module):
    """Pre-norm layers of residual cross-attention and feed-forward block, and a final layer norm.

    Dropout follows the attention and both layers of a feed-forward block.
    """

    def __init__(self, dim: int, depth: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attentions = nn.ModuleList(CrossAttention(dim, heads, dropout) for _ in range(depth))
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(dim),
                nn.Linear(dim, hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, dim),
                nn.Dropout(dropout),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Attend from tokens (B, T, D) to tokens (B, S, D), and return (B, T, D)."""
        for attend, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            x = attend(x, y)
            x = x + feed_forward(x)
        return self.norm(x)
