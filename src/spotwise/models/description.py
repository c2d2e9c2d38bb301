"""Description of a trained model, stored as ``model.json`` beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from spotwise import __version__
from spotwise.constants import FELL_BACK, IMAGENET_FEATURES, SLIDE
from spotwise.data.folds import Fold
from spotwise.errors import InputError, one_of
from spotwise.models.encoder_names import is_imagenet_small
from spotwise.models.registry import REGISTRY, options, resolved_options
from spotwise.models.sizes import Sizes
from spotwise.runtime.files import write_text

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"


class ModelDescription(BaseModel):
    """Everything that a reader of a trained model needs beside its weights.

    Attributes
    ----------
    method, kind
        Registry key and kind of the method.
    options
        All hyper-parameters of the method, defaults included.
    sizes
        Sizes of the network.
    genes
        Symbols of the panel, in the order of the predictions.
    patch_px, image_mean, image_std
        Side of the images in pixels, and the mean and standard deviation that normalise their RGB values in [0, 1].
        ``None`` for a frozen method, which reads the features of its encoder.
    encoder
        Name of the image encoder, ``None`` for one without a name.
    pretrained
        Whether the encoder had its published weights, ``None`` where none were published.
    fell_back
        Whether it had random weights although pretrained ones were asked for.
    cohort, protocol, fold, samples, seed
        The fold, its training slides, and the seed of the training, ``None`` for a method without randomness.
    harmony, targets, features
        How expression and features were prepared for training, as in the configuration entry.
    shuffled
        ``slide`` or ``cohort`` where the expression was shuffled over the training spots of each or all slides, for a
        control.
    fitted
        What a frozen method reports of its fit.
    spotwise
        Version of spotwise, noted but not checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    kind: str
    options: dict[str, bool | int | float | str | None]
    sizes: Sizes
    genes: tuple[str, ...]
    patch_px: int | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    encoder: str | None
    pretrained: bool | None
    fell_back: bool = False
    cohort: str
    protocol: str
    fold: int
    samples: tuple[str, ...]
    seed: int | None = None
    harmony: bool = False
    targets: Literal["log", "slide_centred"] = "log"
    features: Literal["raw", "slide_centred"] = "raw"
    shuffled: Literal["slide", "cohort"] | None = None
    fitted: dict[str, object] = {}
    spotwise: str

    @property
    def note(self) -> str:
        """Remark that tables print beside scores of the model."""
        notes = []
        if self.shuffled:
            where = "each training slide" if self.shuffled == SLIDE else "all training slides"
            notes.append(f"{self.method} trained on expression shuffled over the spots of {where}")
        if self.fell_back:
            notes.append(FELL_BACK)
        elif self.pretrained is False:
            notes.append("encoder without pretrained weights")
        elif is_imagenet_small(self.encoder or ""):
            notes.append(IMAGENET_FEATURES)
        return "; ".join(notes)

    def check_panel(self, fold: Fold, path: str | Path) -> None:
        """Check that a fold has the genes of the model in the same order."""
        if tuple(fold.genes) != self.genes:
            unknown = [gene for gene in fold.genes if gene not in self.genes]
            found = f"{len(fold.genes)} genes, {unknown[0]} among them" if unknown else "other genes, or another order"
            raise InputError(path, "genes", found, f"the {len(self.genes)} genes that the model was trained on")

    def check_fold(self, fold: Fold, folder: Path) -> None:
        """Check that the model in a folder was trained on a fold, so that it has seen no test slide."""
        path = folder / DESCRIPTION
        for key in ("cohort", "protocol", "fold"):
            found, expected = getattr(self, key), getattr(fold, key)
            if found != expected:
                raise InputError(path, key, found, f"{expected}; {_again(folder)}")
        found, expected = sorted(self.samples), sorted(set(fold.sample[fold.bank]))
        if found != expected:
            raise InputError(path, "samples", ", ".join(found), f"{', '.join(expected)}; {_again(folder)}")


def describe(
    method: str,
    options: Mapping[str, object],
    fold: Fold,
    sizes: Sizes,
    encoder: str | None,
    pretrained: bool | None,
    fell_back: bool = False,
    **facts: object,
) -> ModelDescription:
    """Describe a model that was trained on a fold.

    ``options`` are those of its configuration entry, ``facts`` further attributes of :class:`ModelDescription`.
    ``fell_back`` tells so of the encoder of embedded patches; of an encoder that is trained, the options tell.
    """
    resolved = resolved_options(method, options)
    return ModelDescription(
        method=method,
        kind=REGISTRY[method].kind,
        options=resolved,
        sizes=sizes,
        genes=tuple(fold.genes),
        encoder=encoder,
        pretrained=pretrained,
        fell_back=fell_back or (pretrained is False and resolved.get("pretrained", "no") != "no"),
        cohort=fold.cohort,
        protocol=fold.protocol,
        fold=fold.fold,
        samples=tuple(dict.fromkeys(fold.sample[fold.bank])),
        spotwise=__version__,
        **facts,
    )


def write_description(folder: Path, description: ModelDescription) -> None:
    """Write ``model.json`` into the folder of a trained model."""
    write_text(folder / DESCRIPTION, description.model_dump_json(indent=2) + "\n")


def read_description(folder: str | Path) -> ModelDescription:
    """Read the ``model.json`` of a trained model.

    Raises
    ------
    InputError
        There is no such file, or it does not describe a method of the registry.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise InputError(path, "file", "none", "the folder of a trained model")
    try:
        found = ModelDescription.model_validate_json(path.read_text(encoding="utf-8"), strict=False)
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", f"JSON in UTF-8; {_again(folder)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "contents"
        raise InputError(path, key, first["msg"], f"a description by this version; {_again(folder)}") from None
    known = sorted(name for name, entry in REGISTRY.items() if entry.kind != "control")
    if found.method not in known:
        raise InputError(path, "method", repr(found.method), f"{one_of(known, found.method)}; {_again(folder)}")
    if found.kind != (kind := REGISTRY[found.method].kind):
        raise InputError(path, "kind", repr(found.kind), f"{kind}, as {found.method} is; {_again(folder)}")
    if (genes := len(found.genes)) != found.sizes.genes:
        raise InputError(path, "genes", f"{genes} genes", f"{found.sizes.genes}, as in sizes.genes; {_again(folder)}")
    options(found.method, found.options, path, "options")
    return found


def weights_fault(path: Path, found: str) -> InputError:
    """Build the error of a weights file that does not belong to the description beside it."""
    return InputError(path, "file", found, f"weights of the model in {DESCRIPTION}; {_again(path.parent)}")


def _again(folder: str | Path) -> str:
    return f"train the model again: delete {folder}"
