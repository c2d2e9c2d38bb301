"""MicNet: joint embedding of image and expression by contrast with memory banks (Wang et al., 2026).

It predicts nothing. The two embeddings of a spot, each at length 1, form the space that is clustered into domains. It
is trained without labels, on one slide, as published, or on the slides of a cohort.

Its differences from the released code are listed in ``docs/methods.md``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable

import numpy as np
import timm
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from spotwise.models.base import Method
from spotwise.models.batch import Batch
from spotwise.models.encoders import timm_encoder
from spotwise.models.losses import at_least_float32, noise_contrastive
from spotwise.models.micnet_options import MicNetOptions
from spotwise.models.options import stages
from spotwise.models.sizes import Sizes

logger = logging.getLogger(__name__)


class MicNet(Method):
    """Encoder of each modality, with a memory bank of the training spots' embeddings.

    Attributes
    ----------
    image_bank, gene_bank : Tensor
        (n_training, D) buffers of rows at length 1, saved with the weights, without a gradient.
    """

    def __init__(self, n_genes: int, options: MicNetOptions, n_training: int = 0):
        super().__init__(options)
        encoder, self.pretrained_loaded = timm_encoder(options.encoder, options.pretrained, "MicNet")
        bound_last_block(encoder)
        self.image_encoder = nn.Sequential(encoder, nn.Linear(encoder.head_hidden_size, options.embedding_dim))
        self.gene_encoder = _gene_encoder(n_genes, stages(options.gene_hidden), options)
        for name in ("image_bank", "gene_bank"):
            self.register_buffer(name, _random_bank(n_training, options.embedding_dim))

    @classmethod
    def of(cls, sizes: Sizes, options: MicNetOptions) -> MicNet:
        """Create a freshly initialised network with a row in its banks for every training spot."""
        return cls(sizes.genes, options, sizes.training)

    def embed_images(self, images: Tensor) -> Tensor:
        return self.image_encoder(images)

    def embed_expression(self, expression: Tensor) -> Tensor:
        return self.gene_encoder(expression)

    def loss(self, batch: Batch, mask_generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Contrast each modality with the other's bank, and in training update the banks.

        ``batch.index`` holds the rows of the spots in the banks. ``mask_generator`` draws the noise candidates, by
        default the global one. Both directions are monitored, as ``image`` and ``gene``.
        """
        image, gene = self.embed_images(batch.images), self.embed_expression(batch.expression)
        candidates = self.candidates(batch.index, mask_generator)
        image_loss = self._contrast(image, self.gene_bank[candidates])
        gene_loss = self._contrast(gene, self.image_bank[candidates])
        if self.training:
            momentum = self.options.bank_momentum
            for bank, embedding in ((self.image_bank, image), (self.gene_bank, gene)):
                bank[batch.index] = moved_rows(bank[batch.index], embedding.detach().float(), momentum)
        return {"total": image_loss + gene_loss, "image": image_loss.detach(), "gene": gene_loss.detach()}

    def candidates(self, index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the rows (B, K + 1) of the banks to contrast spots with, their own first, then noise."""
        n, own = len(self.image_bank), index[:, None]
        others = n if self.options.own_among_negatives else n - 1
        shape = (len(index), self.options.negatives)
        noise = torch.randint(others, shape, device=index.device, generator=generator)
        if not self.options.own_among_negatives:
            noise = noise + (noise >= own).long()
        return torch.cat([own, noise], dim=1)

    def _contrast(self, embedding: Tensor, rows: Tensor) -> Tensor:
        """Contrast embeddings (B, D) with rows (B, K + 1, D) of the other bank, partners first."""
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = at_least_float32(embedding)
            if self.options.objective == "nce":
                logits = torch.einsum("bd,bkd->bk", embedding, rows)
                return noise_contrastive(logits, n=len(self.image_bank)).mean()
            cosines = torch.einsum("bd,bkd->bk", functional.normalize(embedding, dim=1), rows)
            first = torch.zeros(len(embedding), dtype=torch.long, device=embedding.device)
            return functional.cross_entropy(cosines / self.options.temperature, first)

    def validate(self, batches: Iterable[Batch], n_spots: int, mask_generator: torch.Generator) -> dict[str, float]:
        """Compute how similarly both modalities order the validation spots.

        Validation spots have no row in the banks, and no labels are used. ``spearman`` is the mean of
        :func:`paired_spearman`, ``total`` is 1 - spearman, both NaN where every dimension is constant. ``constant``
        counts the dimensions that are constant in either modality and left out.
        """
        pairs = [(self.embed_images(batch.images), self.embed_expression(batch.expression)) for batch in batches]
        image, gene = (functional.normalize(torch.cat(half).float(), dim=1) for half in zip(*pairs, strict=True))
        rho = paired_spearman(image.cpu().numpy(), gene.cpu().numpy())
        constant = int(np.isnan(rho).sum())
        if constant:
            logger.warning("%d of %d dimensions are constant over the validation spots", constant, len(rho))
        mean = float("nan") if constant == len(rho) else float(np.nanmean(rho))
        return {"total": 1 - mean, "spearman": mean, "constant": constant}


def moved_rows(rows: Tensor, embedding: Tensor, momentum: float) -> Tensor:
    """Move rows (B, D) of a bank towards new embeddings (B, D), not normalised, and back to length 1."""
    return functional.normalize(momentum * rows + (1 - momentum) * embedding, dim=1)


def paired_spearman(image: np.ndarray, gene: np.ndarray) -> np.ndarray:
    """Compute the Spearman correlation (D,) over spots of each dimension of two embeddings (N, D).

    NaN where a dimension is constant in either.
    """
    ranks = [rankdata(values, axis=0) for values in (image, gene)]
    a, b = (values - values.mean(axis=0) for values in ranks)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def bound_last_block(encoder: nn.Module) -> None:
    """Replace each ReLU in the last block of a ResNet by ReLU6, and leave other encoders unchanged."""
    if not isinstance(encoder, timm.models.resnet.ResNet):
        return
    block = encoder.layer4[-1]
    for name, module in list(block.named_children()):
        if isinstance(module, nn.ReLU):
            setattr(block, name, nn.ReLU6(inplace=module.inplace))


def _gene_encoder(n_genes: int, hidden: tuple[int, ...], options: MicNetOptions) -> nn.Sequential:
    """Create the encoder of expression, (B, G) to (B, D)."""
    layers: list[nn.Module] = []
    widths = (n_genes, *hidden)
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], options.embedding_dim))


def _random_bank(n: int, dim: int) -> Tensor:
    """Draw (n, dim) rows of length about 1."""
    bound = (3 / dim) ** 0.5
    return torch.empty(n, dim).uniform_(-bound, bound)
