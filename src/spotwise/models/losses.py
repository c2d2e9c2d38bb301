"""Contrastive and reconstruction losses.

The contrastive loss with soft targets is BLEEP's (Xie et al., NeurIPS 2023), adopted by CMRCNet (Liu et al., 2025).
Throughout, E (B, D) are the image embeddings and G (B, D) the expression embeddings of the same B spots, not
normalised; tau is the temperature.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

# Keeps MicNet's quotients finite (released code)
NCE_EPSILON = 1e-7


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a tensor to float32 unless its precision is higher."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _full_precision(loss: Callable) -> Callable:
    """Compute ``loss`` without autocast.

    Logits reach hundreds at the start of a training, where steps of bfloat16 are whole units.
    """

    @functools.wraps(loss)
    def exact(*tensors: Tensor, **settings):
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*map(at_least_float32, tensors), **settings)

    return exact


def _soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute -sum_j targets_ij log softmax(logits)_ij, one value per row."""
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(dim=-1)


@_full_precision
def soft_contrastive(
    image: Tensor,
    gene: Tensor,
    *,
    temperature: float = 1.0,
    target_temperature: Literal["multiply", "divide"] = "multiply",
    pairing: Literal["released", "paper"] = "released",
) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropies of similarities between modalities with soft targets.

    The targets, from the similarities within each modality, are T = softmax((E E^T + G G^T) / 2 * tau), row by row, and
    not detached. As T is not symmetric, the pairing of T and T^T with the two terms matters.

    Parameters
    ----------
    image, gene
        Embeddings E and G, (B, D) each.
    temperature
        tau.
    target_temperature
        Whether the exponent of the targets is multiplied by tau (CMRCNet, and BLEEP's ViT class) or divided by it
        (BLEEP's ResNet50 class).
    pairing
        ``released`` (the code of BLEEP and of CMRCNet): CE(G E^T / tau, T) and CE(E G^T / tau, T^T); ``paper``
        (CMRCNet, the equation of Loss_c read literally): CE(E G^T / tau, T) and CE(G E^T / tau, T^T).

    Returns
    -------
    tuple
        Cross-entropies of the expression-by-image logits and of the image-by-expression logits, float (B,) each.
    """
    factor = temperature if target_temperature == "multiply" else 1 / temperature
    logits = gene @ image.T / temperature  # (B, B), rows: expression
    similarity = (image @ image.T + gene @ gene.T) / 2
    targets = functional.softmax(similarity * factor, dim=-1)
    if pairing == "paper":
        targets = targets.T
    return _soft_cross_entropy(logits, targets), _soft_cross_entropy(logits.T, targets.T)


def combine(spot_ce: Tensor, image_ce: Tensor, how: Literal["average", "sum"] = "average") -> Tensor:
    """Combine both cross-entropies (B,) of each sample.

    By their average (released code, BLEEP) or their sum (paper, Loss_c).
    """
    total = spot_ce + image_ce
    return total if how == "sum" else total / 2


def balance(loss: Tensor, log: Literal["per_sample", "of_mean"] = "per_sample") -> Tensor:
    """Compute log(1 + loss), by which CMRCNet balances its two losses (Loss_total).

    Of a loss (B,), ``per_sample`` is the mean of log(1 + loss_i) (released code), ``of_mean`` is log(1 + mean of
    loss_i) (paper). Both are the same for a scalar.
    """
    return torch.log1p(loss.mean()) if log == "of_mean" else torch.log1p(loss).mean()


@_full_precision
def reconstruction_error(reconstructed: Tensor, target: Tensor, *, how: Literal["mse", "cosine"] = "mse") -> Tensor:
    """Compute the distance of F_r (B, D) from the embedding that it should equal (CMRCNet, Loss_r).

    ``mse`` is the mean squared error (released code, paper), ``cosine`` the mean of 1 - cosine (paper, Table 5, which
    names it without an equation).
    """
    if how == "cosine":
        return (1 - functional.cosine_similarity(reconstructed, target)).mean()
    return functional.mse_loss(reconstructed, target)


@_full_precision
def noise_contrastive(logits: Tensor, *, n: int) -> Tensor:
    """Compute MicNet's noise-contrastive estimation of each spot's partner among K + 1 candidates.

    With p the softmax of the logits, in place of a partition function, and c = K / n the density of the K noise
    candidates under a uniform choice among n spots:

        -log(p_0 / (p_0 + c)) - sum_k log(c / (p_k + c))

    Parameters
    ----------
    logits
        (B, K + 1), the partner in column 0.
    n
        Spots that the candidates were drawn from.
    """
    log_p = functional.log_softmax(logits, dim=-1)
    noise = (logits.shape[1] - 1) / n
    either = torch.log(log_p.exp() + noise + NCE_EPSILON)
    return either[:, 0] - log_p[:, 0] + (either[:, 1:] - math.log(noise)).sum(dim=-1)


def spread(embedding: Tensor) -> Tensor:
    """Compute the standard deviation of (B, D) over the batch, averaged over dimensions.

    It is 0 when all spots share one embedding.
    """
    return at_least_float32(embedding.detach()).std(dim=0, correction=0).mean()


def monitored(image: Tensor, gene: Tensor, spot_ce: Tensor, image_ce: Tensor) -> dict[str, Tensor]:
    """Compute the detached scalars that reveal a collapse of a contrastive method.

    ``contrastive`` is the mean of the averaged cross-entropies (B,), equal to ln(B) when all embeddings (B, D) are
    equal; ``image_spread`` and ``gene_spread`` are those of :func:`spread`.
    """
    return {
        "contrastive": combine(spot_ce, image_ce, "average").mean().detach(),
        "image_spread": spread(image),
        "gene_spread": spread(gene),
    }
