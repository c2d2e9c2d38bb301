"""The protocol of the HEST benchmark on embedded patches, and two ways to score the same features more carefully.

Facts are those of Jaume et al., HEST-1k, NeurIPS 2024, and of the benchmark's code (mahmoodlab/HEST, ``bench/``): in
each of the task's folds, features are standardised and reduced to 256 principal components of the training spots, a
ridge regression without intercept has the penalty 100 / (components x genes), and each gene's Pearson correlation is
taken over all test spots of the fold together. A task's score is the mean over genes, then over folds.

Two things flatter or handicap a score there, and each has a column of its own beside it. Test slides that are pooled
credit differences between slides, so each gene is also correlated within each test slide. The penalty is far too small
for good features, so a second regression chooses it on training slides left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from spotwise.data.bench_targets import BenchTargets
from spotwise.data.features import EmbeddedSpots, spot_features
from spotwise.evaluation.gene_metrics import pearson_per_gene
from spotwise.models.ridge import HEST_COMPONENTS, Ridge, hest_alpha, hest_slopes
from spotwise.models.ridge_options import RidgeOptions

PCA_SEED = 1  # of the benchmark's approximate decomposition
INNER_FOLDS = 5  # at most, to choose a penalty
OFFICIAL, CROSS_VALIDATED = PROBES = ("official", "cross_validated")


def score_task(targets: BenchTargets, embeddings: Mapping[str, Path]) -> pd.DataFrame:
    """Score an encoder on all folds of a task.

    Parameters
    ----------
    targets
        Targets and folds of the task.
    embeddings
        Embedded patches of each slide.

    Returns
    -------
    DataFrame
        A row per fold, probe (`PROBES`) and gene: ``pcc`` over all test spots together, and whether it ``is_constant``
        (0.0, where the benchmark's own code gives NaN); ``pcc_per_slide``, the mean over the test slides, of which
        ``n_constant_slides`` are constant; ``alpha``, ``components``, and the numbers of training spots, test spots and
        test slides.
    """
    features = {name: spot_features(path, targets.slides[name].barcode) for name, path in embeddings.items()}
    parts = []
    for number, fold in enumerate(targets.folds):
        slides = [targets.slides[name] for name in fold.train]
        train = np.concatenate([features[name] for name in fold.train])
        observed = np.concatenate([slide.targets for slide in slides])
        groups = np.repeat(fold.train, [len(slide.barcode) for slide in slides])
        spatial = np.concatenate([slide.spatial for slide in slides])
        test = np.concatenate([features[name] for name in fold.test])
        fitted = {
            OFFICIAL: official_probe(train, observed, test),
            CROSS_VALIDATED: cross_validated_probe(train, observed, groups, spatial, test),
        }
        for probe, (predicted, alpha, components) in fitted.items():
            part = _score_fold(predicted, [targets.slides[name].targets for name in fold.test])
            facts = {"fold": number, "probe": probe, "gene": targets.genes}
            sizes = {"n_train": len(train), "n_test": len(test), "n_test_slides": len(fold.test)}
            parts.append(part.assign(**facts, alpha=alpha, components=components, **sizes))
    scores = pd.concat(parts, ignore_index=True)
    return scores[["fold", "probe", "gene", *(name for name in scores if name not in ("fold", "probe", "gene"))]]


def official_probe(train: np.ndarray, observed: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Predict test spots by the benchmark's own regression.

    Parameters
    ----------
    train, observed
        Features (N, D) and targets (N, G) of training spots.
    test
        Features (M, D) of test spots.

    Returns
    -------
    predicted, alpha, components
        Predictions (M, G) without the mean of the training targets, the penalty, and the number of components, at most
        one per feature or training spot.
    """
    from sklearn.decomposition import PCA  # slow to import
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    pca = PCA(min(HEST_COMPONENTS, *train.shape), random_state=PCA_SEED)
    scores = pca.fit_transform(scaler.fit_transform(train)).astype(np.float32)  # the benchmark regresses on float32
    alpha = hest_alpha(scores.shape[1], observed.shape[1])
    slopes = hest_slopes(scores, observed, alpha)
    return pca.transform(scaler.transform(test)).astype(np.float32) @ slopes, alpha, scores.shape[1]


def cross_validated_probe(
    train: np.ndarray, observed: np.ndarray, slides: np.ndarray, spatial: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, float, int]:
    """Predict test spots with the penalty of the lowest error on training slides left out in turn.

    As `official_probe`, but for an intercept, exact components, and a penalty chosen on at most `INNER_FOLDS` groups of
    training ``slides`` (N,), or on blocks of the only one by the spots' centres ``spatial`` (N, 2).
    """
    ridge = Ridge(RidgeOptions(components=HEST_COMPONENTS))
    spots = EmbeddedSpots(train, slides, inner_groups(slides), spatial, np.ones(len(train)))
    weights, report = ridge.fit(spots, observed)
    tested = EmbeddedSpots(test, None, None, None, None)
    return ridge.predict(weights, tested, observed), report["alpha"], report["components"]


def inner_groups(slides: np.ndarray) -> np.ndarray:
    """Join slides (N,) to at most `INNER_FOLDS` groups of similar numbers of spots."""
    from sklearn.model_selection import GroupKFold

    if len(set(slides)) <= INNER_FOLDS:
        return slides
    groups = np.empty(len(slides), dtype=int)
    for number, (_, held) in enumerate(GroupKFold(INNER_FOLDS).split(slides, groups=slides)):
        groups[held] = number
    return groups


def _score_fold(predicted: np.ndarray, observed: list[np.ndarray]) -> pd.DataFrame:
    """Correlate each gene over all test spots, and within each test slide."""
    pooled, is_constant = pearson_per_gene(predicted, np.concatenate(observed))
    ends = np.cumsum([len(one) for one in observed])[:-1]
    pairs = zip(np.split(predicted, ends), observed, strict=True)
    within, constant = zip(*(pearson_per_gene(*pair) for pair in pairs), strict=True)
    return pd.DataFrame(
        {
            "pcc": pooled,
            "is_constant": is_constant,
            "pcc_per_slide": np.mean(within, axis=0),
            "n_constant_slides": np.sum(constant, axis=0),
        }
    )


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of an encoder on a task over genes, then over folds.

    Returns
    -------
    DataFrame
        One row: ``pcc`` of the official probe and its standard deviation over folds ``pcc_sd_folds`` (n, as in the
        benchmark), ``pcc_per_slide``, and both means of the cross-validated probe, ``pcc_cv`` and ``pcc_cv_per_slide``;
        ``n_folds``, the median penalty ``alpha_cv``, the smallest number of ``components``, and ``n_constant`` genes
        over all folds of the official probe.
    """
    folds = scores.groupby(["probe", "fold"])[["pcc", "pcc_per_slide"]].mean()
    official, chosen = folds.loc[OFFICIAL], folds.loc[CROSS_VALIDATED]
    by_probe = scores.set_index("probe")
    row = {
        "pcc": official["pcc"].mean(),
        "pcc_sd_folds": official["pcc"].std(ddof=0),
        "pcc_per_slide": official["pcc_per_slide"].mean(),
        "pcc_cv": chosen["pcc"].mean(),
        "pcc_cv_per_slide": chosen["pcc_per_slide"].mean(),
        "n_folds": len(official),
        "alpha_cv": by_probe.loc[[CROSS_VALIDATED], "alpha"].median(),
        "components": by_probe.loc[[OFFICIAL], "components"].min(),
        "n_constant": by_probe.loc[[OFFICIAL], "is_constant"].sum(),
    }
    return pd.DataFrame([row])
