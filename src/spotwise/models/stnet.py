"""ST-Net: a DenseNet fine-tuned to regress expression (He et al., Nat Biomed Eng 2020; bryanhe/ST-Net)."""

from __future__ import annotations

import torch
from timm.models.densenet import DenseNet
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.encoders import timm_encoder
from spotwise.models.images import SYMMETRIES, turn
from spotwise.models.losses import at_least_float32
from spotwise.models.options import stages
from spotwise.models.stnet_options import STNetOptions

# timm's name for the ImageNet weights of DenseNet-121 that ST-Net starts from, which are torchvision's; timm's plain
# `densenet121` has others.
WEIGHTS = "densenet121.tv_in1k"


class STNet(Method):
    """DenseNet and a linear layer that begins as the mean expression of the training spots.

    Differs from the released code in these points:

    * Mean squared error, so that learning rates compare with the other methods'; ``loss="sum"`` is the original.
    * Targets are the log-normalised expression that every method predicts, over the panel chosen on training slides;
      released: the 250 genes with the highest mean over all slides, test slides included, log of smoothed shares.
    * Images are normalised with ImageNet's statistics, which the pretrained weights expect, not with those of the
      first training batches.
    * The epoch is chosen on held-out spots of the training slides, as for every method, not by a nested
      cross-validation over patients followed by a refit.

    Parameters
    ----------
    n_genes
        Genes of the panel, G.
    options
        Hyper-parameters; kept as ``options``.

    Attributes
    ----------
    pretrained_loaded : bool or None
        Whether the network started from pretrained weights; None for another network than DenseNet-121.

    Raises
    ------
    SetupError
        If pretrained weights are required and cannot be had.
    """

    def __init__(self, n_genes: int, options: STNetOptions):
        super().__init__()
        self.options = options
        if options.published:
            self.image_encoder, self.pretrained_loaded = timm_encoder(WEIGHTS, options.pretrained)
        else:
            blocks = stages(options.blocks)
            self.image_encoder = DenseNet(options.growth_rate, blocks, num_classes=0)
        self.head = nn.Linear(self.image_encoder.head_hidden_size, n_genes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def encoder_name(self) -> str | None:
        """Name of the weights in timm; ``None`` for another network than DenseNet-121."""
        return WEIGHTS if self.options.published else None

    @torch.no_grad()
    def begin(self, expression: Tensor) -> None:
        """Start from the mean of the training expression (N, G), whatever the image."""
        self.head.bias.copy_(expression.mean(dim=0))

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Squared error of the spots' images as they are.

        Parameters
        ----------
        batch
            B spots.
        mask_generator
            Not used: nothing is masked.

        Returns
        -------
        dict
            Scalars: ``total``, differentiable; detached, with ``loss="sum"``, ``mse``, its mean over spots.
        """
        predicted = at_least_float32(self.head(self.image_encoder(batch.images)))
        mse = functional.mse_loss(predicted, batch.expression)
        if self.options.loss == "mean":
            return {"total": mse}
        return {"total": len(predicted) * mse, "mse": mse.detach()}

    def predict(self, batch: Batch) -> Tensor:
        """Expression (B, G) from the images, by default the mean over their symmetries."""
        if not self.options.symmetries:
            return self.head(self.image_encoder(batch.images))
        upright = batch.images.permute(0, 2, 3, 1)  # (B, H, W, 3)
        features = sum(
            self.image_encoder(turn(upright, symmetry).permute(0, 3, 1, 2)) for symmetry in range(SYMMETRIES)
        )
        # The head is linear: its value at the mean is the mean of its values
        return self.head(features / SYMMETRIES)
