"""The plan of slides without counts: the models that are applied to them, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from spotwise.config.predict_checks import CHANCE
from spotwise.constants import FINAL, PATIENT
from spotwise.data.slide_sheet import read_slides
from spotwise.errors import InputError
from spotwise.runtime.validation import UNSET
from spotwise.workflow.plan import Plan, Wildcards

PITCH_UM = 100.0  # of the grid by default, which that of Visium has


class FinalModel(NamedTuple):
    """A predictor of a cohort whose model is trained on all slides of the cohort."""

    cohort: str
    predictor: str


class PredictPlan:
    """What the section ``predict`` of a configuration asks for; nothing where there is none.

    Parameters
    ----------
    plan
        The plan of the run.
    where
        Files of the configuration, for messages.

    Attributes
    ----------
    slides
        Name -> slide to predict, in the order of the configuration.
    models
        Name -> the model, in that order. The name is that of the predictor, with its cohort where several are named.

    Raises
    ------
    InputError
        For a malformed table of slides, or a slide that has the name of a sample of the run.
    """

    def __init__(self, plan: Plan, where: str):
        self.plan = plan
        self.settings: Mapping = plan.config.get("predict", {})
        self.slides = {one.slide: one for one in read_slides(self.settings.get("slides", []), where)}
        source = self.settings.get("from", {})
        several = len(source) > 1
        self.models = {
            f"{cohort}-{name}" if several else name: FinalModel(cohort, name)
            for cohort, names in source.items()
            for name in names
        }
        for name, one in self.slides.items():
            if name in plan.samples:
                expected = "another name in the field slide, as a sample of the run has this one"
                raise InputError(where, "predict.slides", repr(name), expected)
            if not one.path and plan.config["data"]["source"] != "generated":
                raise InputError(where, f"predict.slides: path of {name}", "nothing", "the file of the slide")

    # --- Slides -------------------------------------------------------------------------------------------------------

    def require_slides(self) -> None:
        """Check that every file exists, and that every slide can be read or converted.

        Raises
        ------
        InputError
            Naming the first missing or unreadable file.
        """
        for one in self.slides.values():
            for field in ("spots", "tissue"):
                if (path := getattr(one, field)) and not Path(path).is_file():
                    raise InputError(path, f"{field} of slide {one.slide}", "no such file", "a file")
        _ = self.converted

    @cached_property
    def converted(self) -> list[str]:
        """Slides in formats that OpenSlide does not read, which are converted first.

        Raises
        ------
        InputError
            A slide is missing, or in a format that cannot be read at all.
        """
        if not self.slides:
            return []
        from spotwise.data.slide_format import needs_conversion  # imports OpenSlide

        return [name for name, one in self.slides.items() if one.path and needs_conversion(Path(one.path))]

    @cached_property
    def generated(self) -> list[str]:
        """Slides that are drawn with a generated cohort."""
        return [name for name, one in self.slides.items() if not one.path]

    def given(self, w: Wildcards) -> str:
        """Return the file of a slide as it was given."""
        return self.files[w.slide]

    @cached_property
    def files(self) -> dict[str, str]:
        """Name -> file of each slide as it was given, or as it is drawn with a generated cohort."""
        drawn = f"{self.plan.data}/unsequenced"
        return {name: one.path or f"{drawn}/{name}.tif" for name, one in self.slides.items()}

    def slide(self, w: Wildcards) -> str:
        """Return the file of a slide that OpenSlide reads."""
        return f"{self.plan.results}/predict/{w.slide}/slide.tif" if w.slide in self.converted else self.given(w)

    def um_per_px(self, w: Wildcards) -> float | None:
        """Return the pixel size that the user states."""
        return self.um_per_px_of(w.slide)

    def um_per_px_of(self, slide: str) -> float | None:
        """Return the pixel size that the user states for a slide."""
        stated = self.slides[slide].um_per_px
        return None if stated is UNSET else stated

    def outline(self, w: Wildcards) -> str | list:
        """Return the user's outline of the tissue."""
        return self.slides[w.slide].tissue or []

    def centres(self, w: Wildcards) -> str | list:
        """Return the user's centres of spots."""
        return self.slides[w.slide].spots or []

    def patient(self, w: Wildcards) -> str:
        """Return the patient of a slide, "" if unknown."""
        return self.slides[w.slide].patient

    @property
    def grid(self) -> dict[str, object]:
        """Layout of the spots and their pitch in micrometres."""
        grid = self.settings["grid"]
        return {"layout": grid["layout"], "pitch_um": float(grid.get("pitch_um", PITCH_UM))}

    # --- Models -------------------------------------------------------------------------------------------------------

    @cached_property
    def cohorts(self) -> list[str]:
        """Cohorts with a model to apply."""
        return list(dict.fromkeys(model.cohort for model in self.models.values()))

    def folder(self, model: str) -> str:
        """Return the folder of a model."""
        cohort, predictor = self.models[model]
        return f"{self.plan.results}/final/{cohort}/{predictor}"

    @cached_property
    def folders(self) -> list[str]:
        """Folders of all models."""
        return [self.folder(model) for model in self.models]

    def method(self, w: Wildcards) -> str:
        """Return the method behind a predictor."""
        return self.plan.predictors[w.predictor].method

    def training(self, w: Wildcards) -> SimpleNamespace:
        """Return the wildcards of a predictor's training on the whole cohort."""
        return SimpleNamespace(cohort=w.cohort, protocol=FINAL, method=self.method(w), fold=0)

    @cached_property
    def trainings(self) -> list[str]:
        """Every training on a whole cohort, as ``cohort/final/method/fold0/seed0``."""
        methods = {(cohort, self.plan.predictors[predictor].method) for cohort, predictor in self.models.values()}
        return [f"{one}/{FINAL}/{method}/fold0/seed{self.plan.seeds_of(method)[0]}" for one, method in sorted(methods)]

    def trained(self, w: Wildcards) -> str:
        """Return the folder in which the model of a predictor is trained, with the first seed."""
        method = self.method(w)
        return f"{self.plan.results}/models/{w.cohort}/{FINAL}/{method}/fold0/seed{self.plan.seeds_of(method)[0]}"

    def training_fold(self, w: Wildcards) -> str:
        """Return the fold that the model of a predictor is trained on."""
        return self.plan.training_fold_path(self.training(w))

    def training_features(self, w: Wildcards) -> list[str]:
        """Return the frozen features of the training slides, for a method that uses them."""
        training = self.training(w)
        if not self.plan.registered(training.method).uses_encoder:
            return []
        folder = self.plan.features(training)
        return [f"{self.plan.results}/{folder}/{sample}.h5" for sample in self.plan.samples_of[w.cohort]]

    def retrieval(self, w: Wildcards) -> dict[str, object]:
        """Return K and matching of a predictor."""
        known = self.plan.predictors[w.predictor]
        return {"k": known.k, "matching": known.matching}

    def encoder(self, w: Wildcards) -> dict[str, object]:
        """Return the settings of the frozen encoder of a predictor, empty without one."""
        entry = self.plan.config["methods"][self.method(w)]
        return dict(self.plan.config["encoders"][entry["encoder"]]) if "encoder" in entry else {}

    def basis(self, cohort: str) -> str:
        """Return the protocol whose scores tell how reliable genes are: `patient` where it runs."""
        protocols = [protocol for of, protocol in self.plan.folds if of == cohort]
        return PATIENT if PATIENT in protocols else protocols[0]

    def scores(self, w: Wildcards) -> str:
        """Return the scores of a predictor's method in the cross-validation."""
        return f"{self.plan.results}/scores/{w.cohort}/{self.basis(w.cohort)}/{self.method(w)}.parquet"

    def chance_scores(self, w: Wildcards) -> str:
        """Return the scores of the control that tells chance."""
        return f"{self.plan.results}/scores/{w.cohort}/{self.basis(w.cohort)}/{CHANCE}.parquet"

    # --- Predictions --------------------------------------------------------------------------------------------------

    def model_folder(self, w: Wildcards) -> str:
        """Return the folder of the wildcards' model."""
        return self.folder(w.model)

    def features(self, w: Wildcards) -> str | list:
        """Return the frozen features of a slide that a model reads, where it does."""
        model = self.models[w.model]
        method = SimpleNamespace(method=self.plan.predictors[model.predictor].method)
        if not self.plan.registered(method.method).uses_encoder:
            return []
        return f"{self.plan.results}/predict/{w.slide}/{self.plan.features(method)}.h5"

    @property
    def genes(self) -> str | list[str]:
        """Choice of genes for maps and pages."""
        return self.settings["genes"]

    def verdicts(self, w: Wildcards) -> list[str]:
        """Return the verdict on the likeness of a slide for each model."""
        folder = f"{self.plan.results}/predict/{w.slide}/likeness"
        return [f"{folder}/{model.cohort}.json" for model in self.models.values()]

    def likeness(self, w: Wildcards) -> str:
        """Return how alike the spots of a slide are to those that a model has learnt from."""
        return f"{self.plan.results}/predict/{w.slide}/likeness/{self.models[w.model].cohort}"

    @cached_property
    def outputs(self) -> list[str]:
        """What is made for all slides, and the models, below the folder of the run."""
        files = ("summary.html", "spots.geojson", "tissue.geojson", *(f"{model}.h5ad" for model in self.models))
        found = [f"predict/{slide}/{file}" for slide in self.slides for file in files]
        return found + [f"final/{model.cohort}/{model.predictor}" for model in self.models.values()]
