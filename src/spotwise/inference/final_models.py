"""Models trained on whole cohorts: their folders, and predictions of slides that were never sequenced."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from spotwise import __version__
from spotwise.constants import FINAL, PATCH_PX, PATCH_UM, SPATIAL, TEST
from spotwise.data.features import encoder_hash
from spotwise.data.folds import Fold, read_fold, write_fold
from spotwise.data.patch_files import read_patches_index
from spotwise.data.spot_array import spot_pitch
from spotwise.errors import InputError, SetupError, first_line
from spotwise.inference.final_description import (
    BANK,
    FEATURES,
    PREDICTOR,
    REFERENCE,
    RELIABILITY,
    FinalDescription,
    FrozenEncoder,
    TrainingSlide,
    read_final_description,
    read_reliability,
)
from spotwise.inference.prediction import predictions
from spotwise.models.description import DESCRIPTION, WEIGHTS, read_description
from spotwise.models.encoder_names import licence_of
from spotwise.models.registry import REGISTRY
from spotwise.runtime.files import write_table, write_text

UNITS = "log(1 + x), x: counts of a spot scaled to {}"


def assemble_model(
    trained: Path,
    fold: Path,
    features: Mapping[str, Path],
    um_per_px: Mapping[str, float],
    slides: Sequence[Mapping[str, str]],
    reliability: pd.DataFrame,
    facts: Mapping[str, object],
    reference: Path,
    encoder: Mapping[str, object],
    predictor: Mapping[str, object],
    target_sum: float | None,
    output: Path,
) -> None:
    """Write the folder of a final model.

    Parameters
    ----------
    trained, fold
        Folder of the model that was trained on the whole cohort, and the fold that it was trained on.
    features
        Frozen features of the training slides by sample, for a method that uses them.
    um_per_px, slides
        Pixel size of each training slide by sample; its sample, patient and technology.
    reliability, facts
        Table and facts of :func:`spotwise.evaluation.reliability.rate_genes`.
    reference
        What :func:`spotwise.inference.likeness.describe_cohort` wrote.
    encoder
        Settings of the frozen encoder, empty without one.
    predictor
        ``predictor``, ``method``, ``k`` and ``matching``.
    target_sum
        Counts per spot after normalisation.
    """
    description = read_description(trained)
    cohort = read_fold(fold)
    description.check_fold(cohort, trained)
    registered = REGISTRY[description.method]
    output.mkdir(parents=True)
    for name in (DESCRIPTION, WEIGHTS):
        shutil.copyfile(trained / name, output / name)
    shutil.copyfile(reference, output / REFERENCE)
    if registered.uses_bank:
        write_fold(output / BANK, cohort)
    if registered.features:
        (output / FEATURES).mkdir()
        for sample, path in features.items():
            shutil.copyfile(path, output / FEATURES / f"{sample}.h5")
    panel = pd.DataFrame({"gene": cohort.genes, "is_hvg": cohort.is_hvg, "is_marker": cohort.is_marker})
    rated = panel.merge(reliability, on="gene", how="left")
    rated["reliable"] = rated["reliable"].eq(True)
    write_table(rated, output / RELIABILITY)
    pitches = [
        spot_pitch(cohort.spatial[cohort.sample == sample]) * um_per_px[sample]
        for sample in dict.fromkeys(cohort.sample)
    ]
    frozen = _frozen_encoder(encoder, features, description.options) if registered.uses_encoder else None
    encoder_name = frozen.name if frozen else description.encoder
    licences = [licence_of(encoder_name)] if encoder_name and description.pretrained else []
    licences.append(f"model of the data of cohort {cohort.cohort}, whose terms hold for it")
    if registered.uses_bank:
        licences.append(f"{BANK} holds the measured expression of the training slides")
    found = FinalDescription(
        **predictor,
        cohort=cohort.cohort,
        slides=tuple(TrainingSlide(**slide) for slide in slides),
        units=UNITS.format("the median of its slide" if target_sum is None else f"{target_sum:g}"),
        target_sum=target_sum,
        patch_um=PATCH_UM,
        patch_px=PATCH_PX,
        spot_pitch_um=float(np.median(pitches)),
        encoder=frozen,
        reliability=dict(facts),
        licences=tuple(licences),
        spotwise=__version__,
    )
    write_text(output / PREDICTOR, found.model_dump_json(indent=2) + "\n")


def _frozen_encoder(
    settings: Mapping[str, object], features: Mapping[str, Path], options: Mapping[str, object]
) -> FrozenEncoder:
    fields = str(options["fields"]).split("-") if "fields" in options else []
    return FrozenEncoder(
        name=settings["timm"],
        pretrained=settings["pretrained"],
        checkpoint=Path(settings["checkpoint"]).name,
        views=settings["views"],
        fields_um=tuple(map(int, fields)),
        sha256=encoder_hash(features),
    )


def check_model(folder: Path) -> None:
    """Check that the folder of a final model is complete, and that its files are of one panel.

    Raises
    ------
    InputError
        A file is missing or damaged, or ``reliability.tsv`` lists other genes than ``model.json``, or another order.
    """
    folder = Path(folder)
    description, rated = read_description(folder), read_reliability(folder)
    registered = REGISTRY[description.method]
    parts = [WEIGHTS, REFERENCE, *[BANK] * registered.uses_bank, *[FEATURES] * bool(registered.features)]
    for name in parts:
        if not (folder / name).exists():
            raise InputError(folder / name, "file", "none", "a complete model: make the model again")
    if tuple(rated.index) != description.genes:
        expected = f"the {len(description.genes)} genes of {DESCRIPTION} in their order: make the model again"
        raise InputError(folder / RELIABILITY, "gene", f"{len(rated)} genes, others or in another order", expected)


def predict_spots(
    folder: Path, spots: AnnData, um_per_px: float, patches: Path, features: Path | None, device: str, threads: int
) -> tuple[AnnData, np.ndarray]:
    """Predict the spots of a slide without counts by a final model.

    Parameters
    ----------
    folder
        The model.
    spots, um_per_px
        Spots x nothing, with ``obs`` ``array_row`` and ``array_col`` and ``obsm["spatial"]``, and the pixel size of
        level 0 in micrometres.
    patches, features
        ``patches.h5`` of the spots, and their features by the model's frozen encoder, if it has one.

    Returns
    -------
    spots, expression
        The n spots that have a patch, and their log-normalised expression (n, G) float32, genes as in ``model.json``.

    Raises
    ------
    InputError
        The folder is not complete, see `check_model`.
    SetupError
        The features come from other encoder weights than those of the training.
    """
    check_model(folder)
    description, final = read_description(folder), read_final_description(folder)
    barcodes, _, _ = read_patches_index(patches)
    row = pd.Index(barcodes).get_indexer(spots.obs_names)
    spots = spots[row >= 0]
    fold = _fold_of_slide(folder, spots, row[row >= 0])
    new = fold.sample[-1]
    embeddings = {}
    if final.encoder:
        if (found := encoder_hash({new: features})) != final.encoder.sha256:
            raise SetupError(
                f"{features}: {final.encoder.name} with other weights ({found[:12]}) than in the training "
                f"({final.encoder.sha256[:12]}): take the encoder's weights of the training"
            )
        embeddings = {path.stem: path for path in sorted((folder / FEATURES).glob("*.h5"))} | {new: features}
    how = {"name": final.predictor, "k": final.k, "matching": final.matching}
    pitch = final.spot_pitch_um / um_per_px
    found = predictions(folder, fold, {new: patches}, embeddings, [how], device, threads, ring_pitch=pitch)
    (_, _, expression, _, _) = next(iter(found))
    if not np.isfinite(expression).all():
        raise SetupError(f"{folder}: predicts values that are not finite")
    assert expression.shape == (len(spots), len(description.genes))
    return spots, expression


def _fold_of_slide(folder: Path, spots: AnnData, patch: np.ndarray) -> Fold:
    """Build a fold that tests on a slide without counts, and holds the training spots where the model reads them."""
    genes = read_reliability(folder)
    n, known = len(spots), {}
    if (folder / BANK).exists():
        known = vars(_read_bank(folder))
    name = "slide to predict"  # no id of a sample has blanks
    new = {
        "expression": np.full((n, len(genes)), np.nan, dtype=np.float32),
        "sample": np.full(n, name, dtype=object),
        "patient": np.full(n, name, dtype=object),
        "barcode": spots.obs_names.to_numpy(dtype=object),
        "role": np.full(n, TEST, dtype=object),
        "patch": patch.astype(np.int64),
        "spatial": np.asarray(spots.obsm[SPATIAL], dtype=np.float64),
        "array": spots.obs[["array_row", "array_col"]].to_numpy(np.int64),
        "total_counts": np.full(n, np.nan, dtype=np.float32),
    }
    joined = {key: np.concatenate([known[key], value]) if known else value for key, value in new.items()}
    return Fold(
        genes=genes.index.to_numpy(dtype=object),
        is_hvg=genes["is_hvg"].to_numpy(bool),
        is_marker=genes["is_marker"].to_numpy(bool),
        cohort=read_final_description(folder).cohort,
        protocol=FINAL,
        fold=0,
        **joined,
    )


def _read_bank(folder: Path) -> Fold:
    path = folder / BANK
    try:
        bank = read_fold(path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            path, "file", f"a damaged file ({first_line(error)})", "a bank: make the model again"
        ) from None
    read_description(folder).check_panel(bank, path)
    return bank
