"""HisToGene: a vision transformer over the spots of a slide (Pang et al., bioRxiv 2021.11.28.470212)."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.histogene_options import HisToGeneOptions
from spotwise.models.sizes import Sizes

MLP_RATIO = 2


class HisToGene(Method):
    """Transformer over spots with learned embeddings of their rows and columns.

    Its differences from the released code (github.com/maxpmx/HisToGene) are listed in ``docs/methods.md``.
    """

    def __init__(self, n_genes: int, n_positions: int, options: HisToGeneOptions):
        super().__init__(options)
        self.patch_embedding = nn.Linear(3 * options.image_size**2, options.dim)
        self.row_embedding = nn.Embedding(n_positions, options.dim)
        self.column_embedding = nn.Embedding(n_positions, options.dim)
        for embedding in (self.row_embedding, self.column_embedding):
            nn.init.normal_(embedding.weight, std=options.position_std)
        self.dropout = nn.Dropout(options.dropout)
        self.transformer = nn.Sequential(
            *(
                Block(
                    options.dim,
                    options.heads,
                    mlp_ratio=MLP_RATIO,
                    qkv_bias=False,
                    proj_drop=options.dropout,
                    norm_layer=nn.LayerNorm,
                )
                for _ in range(options.layers)
            )
        )
        self.head = nn.Sequential(nn.LayerNorm(options.dim), nn.Linear(options.dim, n_genes))

    @classmethod
    def of(cls, sizes: Sizes, options: HisToGeneOptions) -> HisToGene:
        """Create a freshly initialised network, with a position for each row and column of the arrays."""
        return cls(sizes.genes, sizes.positions, options)

    def predict(self, batch: Batch) -> Tensor:
        """Predict the expression (B, G) of a window of B spots from their images and positions."""
        row, column = batch.position.unbind(1)
        spots = self.patch_embedding(batch.images.flatten(1)) + self.row_embedding(row) + self.column_embedding(column)
        return self.head(self.transformer(self.dropout(spots)[None])[0])  # the window is one sequence

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error over the window."""
        return {"total": functional.mse_loss(self.predict(batch).float(), batch.expression)}
