"""Prediction files, with what a predictor adds to a slide, and their reading beside what was measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from spotwise.constants import OBSERVED, PROVENANCE, RUN_FIELDS, SPATIAL, TEST
from spotwise.data.folds import Fold
from spotwise.errors import InputError
from spotwise.inference.damaged_files import unreadable
from spotwise.inference.observed_files import VALUES, check_genes, read_observed, slide_spots
from spotwise.runtime.hdf5 import CHUNK_COLUMNS, write_anndata

KEPT_BITS = 10  # of a gene's standard deviation over the slide: an error of at most 1 / 2048 of it
FROM_RESULTS = ("predictions", 7)  # folder of all predictions, and how far above a file the results' folder is


def write_prediction(
    path: str | Path, fold: Fold, sample: str, predicted: np.ndarray, provenance: dict[str, object]
) -> None:
    """Write a prediction ``.h5ad`` of one test slide, `rounded`.

    ``predicted`` (N, G) is log-normalised expression of the slide's spots in the order of ``fold``. ``provenance``
    holds the fields of `constants.RUN_FIELDS` that ``fold`` and ``sample`` do not give, such as predictor and seed.
    What was measured is in the file of :func:`spotwise.inference.observed_files.write_observed`.
    """
    n_spots = len(fold.rows(TEST, sample=sample))
    if predicted.shape != (n_spots, len(fold.genes)):
        raise ValueError(f"{predicted.shape} predicted for {n_spots} spots of {sample} and {len(fold.genes)} genes")
    content = anndata.AnnData(var=pd.DataFrame(index=pd.Index(fold.genes, name="gene")), **slide_spots(fold, sample))
    content.uns[PROVENANCE] |= {**provenance, **VALUES}
    write_anndata(path, content, "gzip", columns=rounded(predicted))


def rounded(predicted: np.ndarray) -> np.ndarray:
    """Round predictions (N, G) to a thousandth of the standard deviation of each gene, which halves their files.

    The step is a power of two, between 2^-11 and 2^-10 of the deviation over the slide's spots. A gene of one value
    keeps it. A correlation over 200 spots moves by some 1e-5, in the demo by 1.2e-4 at most. Returns float32.
    """
    values = np.asarray(predicted, dtype=np.float64)
    deviation = values.std(axis=0)
    varies = np.ptp(values, axis=0) > 0
    step = np.exp2(np.floor(np.log2(deviation, where=varies, out=np.zeros_like(deviation))) - KEPT_BITS)
    return np.where(varies, np.round(values / step) * step, values).astype(np.float32)


def read_prediction(
    path: str | os.PathLike,
    observed: str | os.PathLike | anndata.AnnData | None = None,
    genes: Sequence[str] | None = None,
) -> anndata.AnnData:
    """Read one prediction beside what was measured, and check both.

    Parameters
    ----------
    path
        Prediction file of :func:`write_prediction`, or what this function returned, written by ``write_h5ad``, which
        needs no other file.
    observed
        File of the slide's measured expression, or what `read_observed` returned; by default the file of the run in
        whose results the prediction lies.
    genes
        Genes to read, in their order; all by default.

    Returns
    -------
    AnnData
        X predicted and layers["observed"] measured log-normalised expression (spots x genes, dense float32),
        obsm["spatial"] (N, 2) spot centres in level-0 pixels, var with `GENE_FIELDS`, uns["spatial"] with the slide's
        picture, uns["spotwise"] with `constants.RUN_FIELDS` as plain Python values.

    Raises
    ------
    InputError
        A file is missing or damaged, a part is missing, the files are of different slides, or values that must be
        finite are not.
    """
    prediction = _read(path, genes)
    if OBSERVED not in prediction.layers:
        observed = _observed_of(path, prediction) if observed is None else observed
        source = path if isinstance(observed, anndata.AnnData) else observed
        _join(prediction, _opened(observed), source)
    check_prediction(prediction, path)
    return prediction


def _read(path: str | os.PathLike, genes: Sequence[str] | None) -> anndata.AnnData:
    """Read a prediction file, of ``genes`` only the chunks that hold them."""
    try:
        with h5py.File(path) as file:
            parts = {name: read_elem(file[name]) for name in ("obs", "var", "obsm", "uns")}
            names = parts["var"].index
            places = np.arange(len(names)) if genes is None else names.get_indexer(genes)
            if (places >= 0).all():
                parts["var"] = parts["var"].iloc[places]
                layers = {OBSERVED: _columns(file[f"layers/{OBSERVED}"], places)} if OBSERVED in file["layers"] else {}
                return anndata.AnnData(_columns(file["X"], places), layers=layers, **parts)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        raise unreadable(path, "a prediction") from None
    missing = ", ".join(gene for gene, place in zip(genes, places, strict=True) if place < 0)
    raise InputError(path, "genes", f"no {missing}", f"the {len(names)} genes of the prediction")


def _opened(observed: str | os.PathLike | anndata.AnnData) -> anndata.AnnData:
    return observed if isinstance(observed, anndata.AnnData) else read_observed(observed)


def _columns(values: h5py.Dataset, places: np.ndarray) -> np.ndarray:
    """Read columns (N, len(places)) of a matrix, in their order, a chunk's columns at a time."""
    width = CHUNK_COLUMNS if values.chunks is None else values.chunks[1]
    found = np.empty((len(values), len(places)), dtype=np.float32)
    for first in np.unique(places // width) * width:
        here = (places >= first) & (places < first + width)
        found[:, here] = values[:, first : first + width][:, places[here] - first]
    return found


def _observed_of(path: str | os.PathLike, prediction: anndata.AnnData) -> Path:
    """Return where a run keeps what was measured on the slide of a prediction, which lies in its results.

    Raises
    ------
    InputError
        The prediction is of no run, or lies elsewhere.
    """
    folder, levels = FROM_RESULTS
    above = Path(path).absolute().parents
    run = prediction.uns.get(PROVENANCE, {})
    if len(above) <= levels or above[levels - 1].name != folder or not {"cohort", "protocol", "sample"} <= set(run):
        remedy = "give its file, <results>/observed/{cohort}/{protocol}/{sample}.h5ad"
        raise InputError(path, "file", "no measured expression in it or near it", f"a prediction in its run; {remedy}")
    return above[levels] / OBSERVED / str(run["cohort"]) / str(run["protocol"]) / f"{run['sample']}.h5ad"


def _join(prediction: anndata.AnnData, observed: anndata.AnnData, source: object) -> None:
    """Add to a prediction what was measured, by spot and gene, and the slide's picture.

    Raises
    ------
    InputError
        ``source``, the file of ``observed``, is of another slide or fold.
    """
    of_prediction, of_truth = (one.uns.get(PROVENANCE, {}) for one in (prediction, observed))
    for name in ("sample", "cohort", "protocol", "fold"):
        if str(of_prediction.get(name)) != str(of_truth.get(name)):
            expected = f"{of_prediction.get(name)}, as the prediction"
            raise InputError(source, name, of_truth.get(name, "none"), expected)
    places = []
    for axis in ("obs_names", "var_names"):
        names, known = getattr(prediction, axis), getattr(observed, axis)
        places.append(known.get_indexer(names))
        if missing := [name for name, place in zip(names, places[-1], strict=True) if place < 0]:
            expected = "the spots and genes of the prediction"
            raise InputError(source, axis.removesuffix("_names"), f"no {missing[0]}", expected)
    spots, genes = places
    prediction.layers[OBSERVED] = observed.X[np.ix_(spots, genes)]
    prediction.var = prediction.var.join(observed.var.iloc[genes])
    prediction.uns[SPATIAL] = observed.uns[SPATIAL]


def check_prediction(prediction: anndata.AnnData, source: object) -> None:
    """Check a prediction against the contract in `read_prediction`, with ``source`` named in errors.

    Raises
    ------
    InputError
        A part is missing, or values that must be finite are not.
    """
    run = prediction.uns.get(PROVENANCE, {})
    for place, required, present in (
        (f"uns[{PROVENANCE!r}]", RUN_FIELDS, run),
        ("layers", (OBSERVED,), prediction.layers),
        ("obsm", (SPATIAL,), prediction.obsm),
    ):
        if missing := [name for name in required if name not in present]:
            raise InputError(source, place, sorted(present), "also " + ", ".join(missing))
    prediction.uns[PROVENANCE] = {**run, **{name: kind(run[name]) for name, kind in RUN_FIELDS.items()}}
    check_genes(prediction.var, source)
    measured = prediction.var["is_measured"].to_numpy(bool)
    for place, values in (("X", prediction.X), (f"layers[{OBSERVED!r}]", prediction.layers[OBSERVED][:, measured])):
        if not np.isfinite(values).all():
            raise InputError(source, place, "values that are not finite", "log-normalised expression")


def read_slide(
    paths: Mapping[str, str | os.PathLike],
    observed: str | os.PathLike | anndata.AnnData | None = None,
    genes: Sequence[str] | None = None,
) -> dict[str, anndata.AnnData]:
    """Read several predictors' files of one slide, with spots and genes in the order of the first.

    ``observed`` and ``genes`` are those of :func:`read_prediction`.

    Raises
    ------
    InputError
        The files differ in slide, spots or genes.
    """
    truth = None if observed is None else _opened(observed)
    slide: dict[str, anndata.AnnData] = {}
    for predictor, path in paths.items():
        prediction = read_prediction(path, truth, genes)
        first = next(iter(slide.values()), prediction)
        found, expected = prediction.uns[PROVENANCE]["sample"], first.uns[PROVENANCE]["sample"]
        if found != expected:
            raise InputError(path, "sample", found, f"{expected}, the slide of the other predictions")
        axes = {"spots": (prediction.obs_names, first.obs_names), "genes": (prediction.var_names, first.var_names)}
        for axis, (names, others) in axes.items():
            if set(names) != set(others):
                expected = f"the {len(others)} {axis} of the other predictions"
                raise InputError(path, axis, f"{len(names)} {axis}", expected)
        same = all(names.equals(others) for names, others in axes.values())
        slide[predictor] = prediction if same else prediction[first.obs_names, first.var_names]
    return slide


def read_genes(path: str | os.PathLike, observed: str | os.PathLike | anndata.AnnData | None = None) -> pd.DataFrame:
    """Read what is known of the genes of a prediction, a row each with `observed_files.GENE_FIELDS`.

    Parameters and errors are those of :func:`read_prediction`.
    """
    return (read_prediction(path) if observed is None else _opened(observed)).var


def read_ceiling(path: str | Path, genes: Sequence[str]) -> np.ndarray:
    """Read the ceilings (G,) of ``genes`` from ``ceiling.tsv``, NaN for a gene that the slide does not measure."""
    table = pd.read_csv(path, sep="\t", keep_default_na=False)  # a gene may be called NA
    return table.set_index("gene")["ceiling"].reindex(genes).to_numpy(np.float64)
