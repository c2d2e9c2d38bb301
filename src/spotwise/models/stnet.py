"""ST-Net: a DenseNet fine-tuned to regress expression (He et al., Nat Biomed Eng 2020; bryanhe/ST-Net)."""

from __future__ import annotations

import torch
from timm.models.densenet import DenseNet
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import LinearReadout
from spotwise.models.batch import Batch
from spotwise.models.encoders import timm_encoder
from spotwise.models.images import SYMMETRIES, turn
from spotwise.models.losses import at_least_float32
from spotwise.models.options import stages
from spotwise.models.stnet_options import STNetOptions

# ST-Net starts from torchvision's ImageNet weights of DenseNet-121; timm's plain `densenet121` has others
WEIGHTS = "densenet121.tv_in1k"


class STNet(LinearReadout):
    """DenseNet and a linear layer that starts from the mean expression of the training spots.

    Its differences from the released code are listed in ``docs/methods.md``.
    """

    def __init__(self, n_genes: int, options: STNetOptions):
        super().__init__(options)
        if options.published:
            self.image_encoder, self.pretrained_loaded = timm_encoder(WEIGHTS, options.pretrained)
        else:
            self.image_encoder = DenseNet(options.growth_rate, stages(options.blocks), num_classes=0)
        self.head = nn.Linear(self.image_encoder.head_hidden_size, n_genes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def encoder_name(self) -> str | None:
        """Name of the weights in timm, ``None`` for another network than DenseNet-121."""
        return WEIGHTS if self.options.published else None

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Compute the squared error, without averaging over symmetries.

        With ``loss="sum"``, the mean over spots is monitored as ``mse``.
        """
        predicted = at_least_float32(super().predict(batch))
        mse = functional.mse_loss(predicted, batch.expression)
        if self.options.loss == "mean":
            return {"total": mse}
        return {"total": len(predicted) * mse, "mse": mse.detach()}

    def predict(self, batch: Batch) -> Tensor:
        """Predict expression (B, G) from the images, by default the mean over their symmetries."""
        if not self.options.symmetries:
            return super().predict(batch)
        upright = batch.images.permute(0, 2, 3, 1)  # (B, H, W, 3)
        features = sum(
            self.image_encoder(turn(upright, symmetry).permute(0, 3, 1, 2)) for symmetry in range(SYMMETRIES)
        )
        # The head is linear, so that its value at the mean is the mean of its values
        return self.head(features / SYMMETRIES)
