"""The fold that clustering methods train on, without a test slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse

from spotwise.data.folds import Fold, SlideSpots, assemble_fold
from spotwise.data.sample_sheet import FoldPlan
from spotwise.errors import InputError

# counts of a spot after normalisation
PER_SPOT = 1e6
# the fold's protocol: all spots train or validate
ALL_SPOTS = "structure"


def assemble_clustering_fold(
    slides: Mapping[str, SlideSpots], patient_of: Mapping[str, str], cohort: str, validation_fraction: float
) -> Fold:
    """Scale each slide separately and join the slides on their common genes.

    Parameters
    ----------
    slides, patient_of
        Slides and their patients by sample; ``expression`` holds raw counts (N, F) of all genes, CSR.
    validation_fraction
        Share of each slide's spots, drawn at random, on which the epoch is chosen.

    Returns
    -------
    Fold
        Its genes are those with a count in any of the slides, sorted; its spots are in the order of the slides.

    Raises
    ------
    InputError
        The slides have no gene in common, or too few spots to train and to validate.
    """
    common = set.intersection(*(set(slide.genes) for slide in slides.values()))
    detected = [slide.genes[slide.expression.max(axis=0).toarray().ravel() > 0] for slide in slides.values()]
    genes = sorted(common & set().union(*detected))
    if not genes:
        found = f"none with a count in common to {', '.join(slides)}"
        raise InputError(cohort, "genes", found, "slides of one organism")
    plan = FoldPlan(fold=0, test=(), train=tuple(slides), validation="spots")
    scaled = {sample: replace(slide, expression=scale_counts(slide.expression)) for sample, slide in slides.items()}
    panel = pd.DataFrame({"gene": genes, "n_slides_hvg": 0, "is_marker": False})
    return assemble_fold(plan, cohort, ALL_SPOTS, scaled, patient_of, panel, validation_fraction)


def scale_counts(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale the counts (N, F) of one slide as MicNet does.

    Counts per million of the spot, log2(1 + x), then each gene divided by its largest value on the slide, or by 1 where
    that is smaller. The result is float32 from 0 to 1. Validation spots are included, as in the released code.
    """
    per_spot = PER_SPOT / np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    scaled = sparse.diags_array(per_spot) @ counts.astype(np.float64)
    scaled.data = np.log2(1 + scaled.data)
    largest = np.maximum(scaled.max(axis=0).toarray().ravel(), 1)
    return sparse.csr_matrix(scaled @ sparse.diags_array(1 / largest)).astype(np.float32)
