"""Folds as files for other tools: what they may train on, and which spots and genes they have to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spotwise.constants import SPATIAL, TEST
from spotwise.data.folds import Fold

if TYPE_CHECKING:
    from anndata import AnnData

PATCHES = "patches"  # uns: the patches of each slide


def prediction_task(fold: Fold, patches: Mapping[str, str]) -> AnnData:
    """Describe a fold as AnnData, without the measured expression of its test spots.

    Parameters
    ----------
    fold
        The fold.
    patches
        ``patches.h5`` of each slide, by sample.

    Returns
    -------
    AnnData
        X: log-normalised expression (N, G) float32, NaN for test spots. obs: ``barcode``, ``sample``, ``patient``,
        ``role`` (``train``, ``val`` or ``test``), ``patch`` (row in ``img`` of the slide's patches), ``array_row`` and
        ``array_col``; obs_names are ``sample:barcode``. var: ``is_hvg`` and ``is_marker``; var_names are symbols.
        obsm["spatial"]: spot centres (x, y) in level-0 pixels. uns: cohort, protocol, fold and `PATCHES`.
    """
    from anndata import AnnData

    tested = fold.role == TEST
    obs = pd.DataFrame(
        {
            **{name: pd.Categorical(getattr(fold, name)) for name in ("barcode", "sample", "patient", "role")},
            "patch": fold.patch,
            "array_row": fold.array[:, 0],
            "array_col": fold.array[:, 1],
        },
        index=[f"{sample}:{barcode}" for sample, barcode in zip(fold.sample, fold.barcode, strict=True)],
    )
    return AnnData(
        X=np.where(tested[:, None], np.float32(np.nan), fold.expression),
        obs=obs,
        var=pd.DataFrame({"is_hvg": fold.is_hvg, "is_marker": fold.is_marker}, index=fold.genes.astype(str)),
        obsm={SPATIAL: fold.spatial},
        uns={"cohort": fold.cohort, "protocol": fold.protocol, "fold": fold.fold, PATCHES: dict(patches)},
    )
