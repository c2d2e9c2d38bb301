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
    """Transformer over spots: linear patch embedding, learned row and column embeddings, linear gene head.

    Differences from the released code (github.com/maxpmx/HisToGene):

    * A sequence is a window of neighbouring spots, not the whole slide: attention grows with the square of the spots,
      which reach 25,000, and a slide is more than one step of training. One of ``window`` spots or fewer is seen whole.
    * The position tables are as long as the fold's largest array, not 64; Visium has 128 columns.
    * Images are normalised; the released code feeds pixels of 0-255. Their projection starts with a standard deviation
      of about 85 and drowns positions of 1 + 1, that of normalised H&E with one of about 0.7, which the same positions
      would drown in turn. ``position_std`` = 0.02, usual for vision transformers, keeps positions at a few percent of
      the images, as released; rows and columns that no training slide uses then add next to nothing.
    * 112 pixels hold the whole patch of 112 um, where the authors cut 112 pixels of the slide around each spot.
    * Genes and normalisation are those of all methods here, not the 785 genes that the authors fixed for their data.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    n_positions
        Rows or columns of the largest array, whichever are more.
    options
        Hyper-parameters; kept as ``options``.
    """

    def __init__(self, n_genes: int, n_positions: int, options: HisToGeneOptions):
        super().__init__()
        self.options = options
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
        """A freshly initialised network for a fold, with a position for each row and column of its arrays."""
        return cls(sizes.genes, sizes.positions, options)

    def forward(self, images: Tensor, position: Tensor) -> Tensor:
        """Images (B, 3, H, W) and positions (B, 2) of one window of B spots -> expression (B, G)."""
        row, column = position.unbind(1)
        spots = self.patch_embedding(images.flatten(1)) + self.row_embedding(row) + self.column_embedding(column)
        return self.head(self.transformer(self.dropout(spots)[None])[0])  # the window is one sequence

    def predict(self, batch: Batch) -> Tensor:
        """Expression (B, G) of a window of B spots, each in the light of all others."""
        return self(batch.images, batch.position)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Mean squared error over the window.

        Parameters
        ----------
        batch
            The spots of one window.
        mask_generator
            Not used, as HisToGene masks nothing.

        Returns
        -------
        dict
            ``total``, differentiable.
        """
        return {"total": functional.mse_loss(self.predict(batch).float(), batch.expression)}
