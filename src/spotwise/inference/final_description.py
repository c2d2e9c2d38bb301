"""Description of a model that was trained on a whole cohort, in the files of its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from spotwise.errors import InputError, first_line
from spotwise.inference.slide_anndata import RELIABILITY_COLUMNS

PREDICTOR, BANK, RELIABILITY, REFERENCE, FEATURES = (
    "predictor.json",
    "bank.h5",
    "reliability.tsv",
    "reference.safetensors",
    "features",
)


class TrainingSlide(BaseModel):
    """A slide that a final model has learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: str
    patient: str
    technology: str


class FrozenEncoder(BaseModel):
    """The frozen image encoder of a final model.

    ``name``, ``pretrained``, ``checkpoint`` and ``views`` are those of its configuration entry, ``checkpoint`` without
    folders. ``fields_um`` are the sides of the squares that it describes, empty for patches alone. ``sha256`` is the
    hash of its weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    pretrained: str
    checkpoint: str
    views: int
    fields_um: tuple[int, ...]
    sha256: str


class FinalDescription(BaseModel):
    """What ``predictor.json`` says beside ``model.json``.

    Attributes
    ----------
    predictor, method, k, matching
        Name in the tables, configuration entry, and how spots are retrieved.
    cohort, slides
        The cohort and its slides, all of which the model has learnt from.
    units, target_sum
        Meaning of a predicted value, and the counts per spot that it refers to, ``None`` for each slide's median.
    patch_um, patch_px
        Side of a patch in micrometres and pixels.
    spot_pitch_um
        Median distance of neighbouring spots of the training slides in micrometres.
    encoder
        The frozen encoder, ``None`` for a method that has its own.
    reliability
        How the reliability of the genes was found: units left out, number of units, threshold.
    licences
        Remarks on the licences of encoder and training data.
    spotwise
        Version of spotwise, noted but not checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    predictor: str
    method: str
    k: int
    matching: str
    cohort: str
    slides: tuple[TrainingSlide, ...]
    units: str
    target_sum: float | None
    patch_um: float
    patch_px: int
    spot_pitch_um: float
    encoder: FrozenEncoder | None
    reliability: dict[str, object]
    licences: tuple[str, ...]
    spotwise: str


def read_final_description(folder: str | Path) -> FinalDescription:
    """Read the ``predictor.json`` of a final model.

    Raises
    ------
    InputError
        There is none, or it is of another version or damaged.
    """
    path = Path(folder) / PREDICTOR
    try:
        return FinalDescription.model_validate_json(path.read_text(encoding="utf-8"), strict=False)
    except OSError:
        raise InputError(path, "file", "none", "the folder of a model that `snakemake predict` has made") from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", "JSON in UTF-8: make the model again") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "contents"
        raise InputError(path, key, first["msg"], "a description by this version: make the model again") from None


def read_reliability(folder: str | Path) -> pd.DataFrame:
    """Read the genes (G rows, index ``gene``) of a final model and how reliably it predicts each.

    Raises
    ------
    InputError
        The table is missing or damaged, or lacks a column.
    """
    path, expected = Path(folder) / RELIABILITY, "the table of a complete model: make the model again"
    try:
        # a gene may be called NA, or have a number for a name
        table = pd.read_csv(path, sep="\t", dtype={"gene": str}, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise InputError(path, "file", "none", expected) from None
    except ValueError as error:  # also of pandas' parser, and of bytes that are not UTF-8
        raise InputError(path, "file", f"a damaged table ({first_line(error)})", expected) from None
    if missing := [name for name in ("gene", *RELIABILITY_COLUMNS) if name not in table]:
        raise InputError(path, "columns", f"no {missing[0]}", expected)
    return table.set_index("gene")
