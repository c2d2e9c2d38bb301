"""Predictions of a fold's test slides by a trained model and by the controls."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from spotwise.constants import CONTROL, METHOD, TEST
from spotwise.data.features import embedded_spots
from spotwise.data.folds import Fold, read_fold
from spotwise.inference.prediction_files import read_ceiling, write_prediction
from spotwise.inference.retrieval import retrieve, write_embeddings
from spotwise.inference.trained_models import load_model
from spotwise.models.description import read_description
from spotwise.models.registry import load

logger = logging.getLogger(__name__)

# Predictor, test slide, its (N, G) expression, top_k and the number of spots averaged
Prediction = tuple[str, str, np.ndarray, int, int]


def predict_test_slides(
    model: Path,
    fold: Path,
    patches: Mapping[str, Path],
    embeddings: Mapping[str, Path],
    predictors: Sequence[Mapping[str, object]],
    method: str,
    seed: int,
    device: str,
    threads: int,
    output: Path,
    bank: Path | None = None,
    queries: Path | None = None,
    kind: str = METHOD,
) -> None:
    """Predict every test slide of a fold by every predictor of a trained model.

    Parameters
    ----------
    fold
        Fold that the model was trained on: ``fold.h5``, or another where expression was corrected for slides.
    patches
        ``patches.h5`` of the test slides by sample; not read for a frozen method.
    embeddings
        Embedded patches by sample: of the test slides for a frozen method, of all slides of the fold for another method
        that uses a frozen encoder, otherwise empty.
    predictors
        ``name``, ``k`` and ``matching`` (``average`` or ``weighted``) of each predictor. Only retrieval methods have
        more than one, and only they read ``k`` and ``matching``.
    method, seed
        Configuration entry and seed to note in the predictions.
    output, bank, queries
        Folder for ``{predictor}/{sample}.h5ad``, and files for the embeddings of a retrieval method, ``.safetensors``.
    kind
        ``method``, or ``control`` for a control that is trained.

    Raises
    ------
    InputError
        There is no model in the folder, or it was trained on another fold or panel.
    SetupError
        The frozen encoder had other weights in training than for a test slide, or there is no GPU.
    """
    description = read_description(model)
    content = read_fold(fold)
    description.check_panel(content, fold)
    description.check_fold(content, model)
    found = predictions(model, content, patches, embeddings, predictors, device, threads, bank, queries)
    for predictor, sample, predicted, top_k, used in found:
        made = {"predictor": predictor, "method": method, "kind": kind, "k": top_k, "k_used": used}
        made |= {"seed": seed, "note": description.note}
        write_prediction(output / predictor / f"{sample}.h5ad", content, sample, predicted, made)


def predictions(
    model: Path,
    fold: Fold,
    patches: Mapping[str, Path],
    embeddings: Mapping[str, Path],
    predictors: Sequence[Mapping[str, object]],
    device: str,
    threads: int,
    bank: Path | None = None,
    queries: Path | None = None,
    ring_pitch: float | None = None,
) -> Iterator[Prediction]:
    """Predict the test spots of a fold, whose expression is not read, by every predictor of a trained model.

    Parameters are those of :func:`predict_test_slides`; for ``ring_pitch`` see
    :class:`spotwise.data.features.EmbeddedSpots`.
    """
    kind = read_description(model).kind
    if kind == "frozen":
        return _by_frozen(model, fold, embeddings, predictors, threads, ring_pitch)
    if kind == "regression":
        return _by_regression(model, fold, patches, embeddings, predictors, device, threads)
    return _by_retrieval(model, fold, patches, predictors, device, threads, bank, queries)


def predict_by_controls(
    fold: Path,
    ceilings: Mapping[str, Path],
    controls: Sequence[str],
    seed: int,
    output: Path,
) -> None:
    """Predict every test slide of a fold by every control, by registry key.

    ``ceilings`` are ``ceiling.tsv`` of the test slides by sample, for the control ``NoiseCeiling``, otherwise empty.
    Files are ``{control}/{sample}.h5ad`` below ``output``.
    """
    content = read_fold(fold)
    for sample in _tested(content):
        ceiling = read_ceiling(ceilings[sample], content.genes) if ceilings else None
        for name in controls:
            control = load(name)()
            predicted = control.predict(content, sample, seed, ceiling)
            made = {"predictor": name, "method": name, "kind": CONTROL, "k": 0, "k_used": 0}
            made |= {"seed": seed, "note": control.note(content, sample)}
            write_prediction(output / name / f"{sample}.h5ad", content, sample, predicted, made)


def _tested(fold: Fold) -> list[str]:
    return list(dict.fromkeys(fold.sample[fold.rows(TEST)]))


def _by_retrieval(
    model: Path,
    fold: Fold,
    patches: Mapping[str, Path],
    predictors: Sequence[Mapping[str, object]],
    device: str,
    threads: int,
    bank: Path | None,
    queries: Path | None,
) -> Iterator[Prediction]:
    from spotwise.inference.embeddings import embed_fold  # imports torch, which frozen methods and controls do without

    banked, queried = embed_fold(model, fold, patches, device, threads)
    for path, embeddings in ((bank, banked), (queries, queried)):
        if path is not None:
            write_embeddings(path, embeddings)
    expression = fold.expression[banked.row]
    for predictor in predictors:
        name, top_k = predictor["name"], predictor["k"]
        if top_k > len(banked.row):
            logger.warning("%s: K = %d exceeds the bank of %d spots: all are averaged", name, top_k, len(banked.row))
        for sample in _tested(fold):
            of_slide = queried[np.flatnonzero(fold.sample[queried.row] == sample)]
            weighted = predictor["matching"] == "weighted"
            predicted, used = retrieve(of_slide, banked, expression, top_k, weighted, threads)
            yield name, sample, predicted, top_k, used


def _by_regression(
    model: Path,
    fold: Fold,
    patches: Mapping[str, Path],
    embeddings: Mapping[str, Path],
    predictors: Sequence[Mapping[str, object]],
    device: str,
    threads: int,
) -> Iterator[Prediction]:
    from spotwise.inference.regression import predict_slides  # imports torch

    of_slides = {sample: patches[sample] for sample in _tested(fold)}
    for sample, predicted in predict_slides(model, fold, of_slides, embeddings, device, threads).items():
        for predictor in predictors:
            yield predictor["name"], sample, predicted, 0, 0


def _by_frozen(
    model: Path,
    fold: Fold,
    embeddings: Mapping[str, Path],
    predictors: Sequence[Mapping[str, object]],
    threads: int,
    ring_pitch: float | None,
) -> Iterator[Prediction]:
    loaded = load_model(model)
    fitted = loaded.description.fitted
    for sample in _tested(fold):
        of_slide = {sample: embeddings[sample]}
        loaded.check_encoder(of_slide)
        spots = embedded_spots(fold, fold.rows(TEST, sample=sample), of_slide, loaded.description.features)
        spots = spots._replace(ring_pitch=ring_pitch)
        with threadpool_limits(threads):
            predicted = loaded.method.predict(loaded.weights, spots, fold.expression[fold.bank])
        for predictor in predictors:
            yield predictor["name"], sample, predicted, fitted.get("k", 0), fitted.get("k_used", 0)
