"""Expression of test spots as the mean over the most similar training spots.

As in CMRCNet's section "Similarity-based retrieval in inference stage" and BLEEP's ``average`` matching: cosine
similarity between the embedding of a test patch and the embeddings of training expression, top K, unweighted mean of
the matches' log-normalised expression. BLEEP's ``simple`` matching is K = 1, its ``weighted`` matching is
:func:`distance_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from spotwise.inference.damaged_files import unreadable
from spotwise.models.similarity_search import average, nearest, unit_rows
from spotwise.runtime.files import atomic


@dataclass(frozen=True)
class Embeddings:
    """Embedded spots, of a bank or of queries.

    ``unit`` (M, D) float32 are L2-normalised rows, ``length`` (M,) float32 what they were divided by, and ``row`` (M,)
    int64 the rows of ``fold.h5``.
    """

    unit: np.ndarray
    length: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, embedding: np.ndarray, row: np.ndarray) -> Embeddings:
        """Normalise raw embeddings (M, D)."""
        return cls(unit_rows(embedding), np.linalg.norm(embedding, axis=1).astype(np.float32), row.astype(np.int64))

    def __getitem__(self, chosen: np.ndarray) -> Embeddings:
        return Embeddings(self.unit[chosen], self.length[chosen], self.row[chosen])


def write_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write ``bank.safetensors`` or ``queries.safetensors``.

    They hold ``embedding`` (unit rows), ``length`` and ``row``.
    """
    content = {"embedding": embeddings.unit, "length": embeddings.length, "row": embeddings.row}
    with atomic(path) as temporary:
        save_file(content, temporary)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read what :func:`write_embeddings` wrote.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    try:
        content = load_file(path)
        return Embeddings(content["embedding"], content["length"], content["row"])
    except (OSError, KeyError, SafetensorError):
        raise unreadable(path, "embeddings") from None


def distance_weights(queries: Embeddings, bank: Embeddings, matches: np.ndarray) -> np.ndarray:
    """Compute the weights (Q, k) of the ``matches`` (Q, k) in BLEEP's ``weighted`` matching.

    As in its inference notebook: exp(-(d - d_top + 1)) with d the squared distances of the embeddings before they are
    normalised, and d_top that of the match with the best cosine, which need not be the nearest. With layer-normalised
    embeddings of 256 dimensions the distances are so large that one match takes nearly all of the weight. Weights are
    float32 and sum to 1.
    """
    cosine = np.einsum("qd,qkd->qk", queries.unit, bank.unit[matches]).astype(np.float64)
    own, other = queries.length[:, None].astype(np.float64), bank.length[matches].astype(np.float64)
    distance = own**2 + other**2 - 2 * own * other * cosine
    top = np.take_along_axis(distance, cosine.argmax(axis=1)[:, None], axis=1)
    exponent = top - distance - 1
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))  # the same ratios, without overflow
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def retrieve(
    queries: Embeddings, bank: Embeddings, expression: np.ndarray, top_k: int, weighted: bool = False, threads: int = 1
) -> tuple[np.ndarray, int]:
    """Predict the expression of queries by the mean of their ``top_k`` nearest bank spots.

    ``expression`` (M, G) is that of the bank's spots, log-normalised. A smaller bank is used whole. Matches are
    optionally weighted by :func:`distance_weights`.

    Returns
    -------
    prediction, used
        (Q, G) float32, and the number of spots that were averaged.
    """
    used = min(top_k, len(bank.row))
    matches = nearest(queries.unit, bank.unit, used, threads)
    weights = distance_weights(queries, bank, matches) if weighted else None
    return average(expression, matches, weights, threads), used
