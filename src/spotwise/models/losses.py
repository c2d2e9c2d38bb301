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
    not detached. As T is not symmetric, it matters which of the two terms is paired with T, and which with T^T:

    * ``released`` (the code of BLEEP and of CMRCNet): CE(G E^T / tau, T) and CE(E G^T / tau, T^T);
    * ``paper`` (CMRCNet, the equation of Loss_c read literally): CE(E G^T / tau, T) and CE(G E^T / tau, T^T).

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
        See above.

    Returns
    -------
    tuple
        Cross-entropies of the expression-by-image logits and of the image-by-expression logits, float (B,) each.

    Raises
    ------
    ValueError
        For an unknown ``target_temperature`` or ``pairing``.
    """
    exponent = {"multiply": temperature, "divide": 1 / temperature}
    if target_temperature not in exponent:
        raise ValueError(f"target_temperature: found {target_temperature!r}, expected multiply or divide")
    logits = gene @ image.T / temperature  # (B, B), rows: expression
    similarity = (image @ image.T + gene @ gene.T) / 2
    targets = functional.softmax(similarity * exponent[target_temperature], dim=-1)
    if pairing == "released":
        return _soft_cross_entropy(logits, targets), _soft_cross_entropy(logits.T, targets.T)
    if pairing == "paper":
        return _soft_cross_entropy(logits, targets.T), _soft_cross_entropy(logits.T, targets)
    raise ValueError(f"pairing: found {pairing!r}, expected released or paper")


def combine(spot_ce: Tensor, image_ce: Tensor, how: Literal["average", "sum"] = "average") -> Tensor:
    """Combine both cross-entropies of each sample.

    Parameters
    ----------
    spot_ce, image_ce
        (B,) each, from :func:`soft_contrastive`.
    how
        ``average`` (released code, BLEEP) or ``sum`` (paper, Loss_c).

    Returns
    -------
    Tensor
        (B,)

    Raises
    ------
    ValueError
        For another ``how``.
    """
    if how == "average":
        return (spot_ce + image_ce) / 2
    if how == "sum":
        return spot_ce + image_ce
    raise ValueError(f"combination: found {how!r}, expected average or sum")


def balance(loss: Tensor, log: Literal["per_sample", "of_mean"] = "per_sample") -> Tensor:
    """Compute log(1 + loss), by which CMRCNet balances its two losses (Loss_total).

    Parameters
    ----------
    loss
        (B,), or a scalar, for which both values of ``log`` give the same.
    log
        ``per_sample``: mean of log(1 + loss_i) (released code); ``of_mean``: log(1 + mean of loss_i) (paper).

    Returns
    -------
    Tensor
        scalar

    Raises
    ------
    ValueError
        For another ``log``.
    """
    if log == "per_sample":
        return torch.log1p(loss).mean()
    if log == "of_mean":
        return torch.log1p(loss.mean())
    raise ValueError(f"log: found {log!r}, expected per_sample or of_mean")


@_full_precision
def reconstruction_error(reconstructed: Tensor, target: Tensor, *, how: Literal["mse", "cosine"] = "mse") -> Tensor:
    """Compute the distance of F_r from the embedding that it should equal (CMRCNet, Loss_r).

    Parameters
    ----------
    reconstructed, target
        (B, D) each.
    how
        ``mse``: mean squared error (released code, paper); ``cosine``: mean of 1 - cosine (paper, Table 5, which names
        it without an equation).

    Returns
    -------
    Tensor
        scalar

    Raises
    ------
    ValueError
        For another ``how``.
    """
    if how == "mse":
        return functional.mse_loss(reconstructed, target)
    if how == "cosine":
        return (1 - functional.cosine_similarity(reconstructed, target)).mean()
    raise ValueError(f"reconstruction_loss: found {how!r}, expected mse or cosine")


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

    Returns
    -------
    Tensor
        (B,)
    """
    log_p = functional.log_softmax(logits, dim=-1)
    noise = (logits.shape[1] - 1) / n
    either = torch.log(log_p.exp() + noise + NCE_EPSILON)
    return either[:, 0] - log_p[:, 0] + (either[:, 1:] - math.log(noise)).sum(dim=-1)


def spread(embedding: Tensor) -> Tensor:
    """Compute the standard deviation over the batch, averaged over dimensions.

    It is 0 when all spots share one embedding.

    Parameters
    ----------
    embedding
        (B, D)

    Returns
    -------
    Tensor
        scalar, detached
    """
    return at_least_float32(embedding.detach()).std(dim=0, correction=0).mean()


def monitored(image: Tensor, gene: Tensor, spot_ce: Tensor, image_ce: Tensor) -> dict[str, Tensor]:
    """Compute the scalars that reveal a collapse of a contrastive method.

    Parameters
    ----------
    image, gene
        Embeddings, (B, D) each.
    spot_ce, image_ce
        (B,) each, from :func:`soft_contrastive`.

    Returns
    -------
    dict
        Detached: ``contrastive``, the mean of the averaged cross-entropies, equal to ln(B) when all embeddings are
        equal; ``image_spread`` and ``gene_spread``, see :func:`spread`.
    """
    return {
        "contrastive": combine(spot_ce, image_ce, "average").mean().detach(),
        "image_spread": spread(image),
        "gene_spread": spread(gene),
    }
