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

    Differences from the released code (github.com/maxpmx/HisToGene):

    * A sequence is a window of neighbouring spots, not the whole slide. Attention grows with the square of the spots,
      of which a slide has up to 25,000. A slide of ``window`` spots or fewer is one sequence.
    * The position tables are as long as the fold's largest array, not 64; Visium has 128 columns.
    * Images are normalised; the released code feeds pixels of 0-255. The projection of such pixels starts with a
      standard deviation of about 85 and dominates positions of 1 + 1; that of normalised H&E starts with about 0.7 and
      would be dominated by them. ``position_std`` = 0.02, usual for vision transformers, keeps positions at a few
      percent of the images, as released. Rows and columns that no training slide uses then add next to nothing.
    * 112 pixels show the whole patch of 112 um; the authors cut 112 pixels of the slide around each spot.
    * Genes and normalisation are those of all methods, not the 785 genes that the authors fixed for their data.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    n_positions
        Rows or columns of the largest array, whichever is larger.
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
        """Create a freshly initialised network, with a position for each row and column of the arrays."""
        return cls(sizes.genes, sizes.positions, options)

    def forward(self, images: Tensor, position: Tensor) -> Tensor:
        """Predict expression (B, G) from images (B, 3, H, W) and positions (B, 2) of one window of B spots."""
        row, column = position.unbind(1)
        spots = self.patch_embedding(images.flatten(1)) + self.row_embedding(row) + self.column_embedding(column)
        return self.head(self.transformer(self.dropout(spots)[None])[0])  # the window is one sequence

    def predict(self, batch: Batch) -> Tensor:
        """Predict the expression (B, G) of a window of B spots."""
        return self(batch.images, batch.position)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error over the window.

        Parameters
        ----------
        batch
            The spots of one window.
        mask_generator
            Not used, as nothing is masked.

        Returns
        -------
        dict
            ``total``, differentiable.
        """
        return {"total": functional.mse_loss(self.predict(batch).float(), batch.expression)}
