"""Spots of a slide as GeoJSON, which QuPath opens as detections with the expression of genes as measurements.

QuPath reads a feature's ``properties``: ``objectType``, ``name``, ``classification`` and ``measurements``, an object of
name -> value (``QuPathTypeAdapters.java``, QuPath 0.4 and later). Coordinates are pixels of level 0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData

from spotwise.constants import SPATIAL
from spotwise.data.spot_array import spot_pitch
from spotwise.runtime.files import atomic

MOST_GENES = 50
CORNERS = 12  # of the polygon that stands for a circle
UNLIKE = {"name": "Unlike the training spots", "color": [176, 0, 32]}
_DIGITS = 4  # of measurements


def write_spots(predictions: Mapping[str, AnnData], genes: Mapping[str, Sequence[str]], output: Path) -> int:
    """Write the spots of a slide with predicted expression, as a GeoJSON FeatureCollection (RFC 7946).

    A spot is a polygon as wide as spots lie apart. Its measurements are the similarity to the training spots and the
    genes, under the name of the gene, or ``<model>: <gene>`` of several models. Spots unlike the training spots have
    the class `UNLIKE`.

    Parameters
    ----------
    predictions
        Model -> prediction of one slide, with the same spots in the same order.
    genes
        Model -> genes, of which the first `MOST_GENES` are written.

    Returns
    -------
    int
        Size of the file in bytes.
    """
    first = next(iter(predictions.values()))
    several = len(predictions) > 1
    names, columns = [], []
    for model, prediction in predictions.items():
        chosen = list(genes[model])[:MOST_GENES]
        names += [f"{model}: similarity" if several else "similarity"]
        names += [f"{model}: {gene}" if several else gene for gene in chosen]
        values = np.asarray(prediction.X[:, prediction.var_names.get_indexer(chosen)], dtype=float)
        columns += [prediction.obs["similarity"].to_numpy(float)[:, None], values]
    measured = np.concatenate(columns, axis=1).round(_DIGITS)
    unlike = np.any([prediction.obs["unlike"].to_numpy(bool) for prediction in predictions.values()], axis=0)
    outlines = _outlines(np.asarray(first.obsm[SPATIAL], dtype=float))
    with atomic(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for row, barcode in enumerate(first.obs_names):
            properties = {"objectType": "detection", "name": str(barcode)}
            if unlike[row]:
                properties["classification"] = UNLIKE
            properties["measurements"] = dict(zip(names, measured[row].tolist(), strict=True))
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{barcode} {outlines[row, 0].tolist()}")),
                "geometry": {"type": "Polygon", "coordinates": [outlines[row].tolist()]},
                "properties": properties,
            }
            file.write((",\n" if row else "\n") + json.dumps(feature, allow_nan=False, separators=(",", ":")))
        file.write("\n]}\n")
    return output.stat().st_size


def _outlines(centres: np.ndarray) -> np.ndarray:
    """Return closed rings (N, CORNERS + 1, 2), anticlockwise by RFC 7946, around centres (N, 2)."""
    pitch = spot_pitch(centres) if len(centres) > 1 else np.inf
    radius = pitch / 2 if np.isfinite(pitch) and pitch > 0 else 1.0
    angles = 2 * np.pi * np.arange(CORNERS) / CORNERS
    circle = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = (centres[:, None] + circle).round(1)
    return np.concatenate([rings, rings[:, :1]], axis=1)
