"""The plan of a run: samples, folds, methods and predictors, and the lists that rules cannot write down themselves.

Rules show paths as literals and ask :class:`Plan` for the names in them, or for a path that depends on the
configuration. Functions whose argument is ``w`` take
Snakemake's wildcards, or any object with the same attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from spotwise import config as configuration
from spotwise.constants import BOUNDS, CONTROL, CONTROLS, FINAL, METHOD, PROTOCOLS, SLIDE_CENTRED
from spotwise.data import hest, manifest
from spotwise.data.sample_sheet import FoldPlan, Sample, by_cohort, plan_whole
from spotwise.models.registry import REGISTRY, Entry
from spotwise.runtime.code_version import code_version

Wildcards = Any
# Settings of a training that do not change its result: a job reads them by itself, so that changing one trains nothing
INDECISIVE = ("memory", "save_every_minutes")


def one_of(names: Iterable[object]) -> str:
    """Return a wildcard constraint that matches exactly these names, or nothing where there are none."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def times_attempt(amount: int) -> Callable[[Wildcards, int], int]:
    """Return a resource function that asks for ``amount``, twice that on the second attempt, and so on."""
    return lambda wildcards, attempt: amount * attempt


class Plan:
    """What a run consists of.

    Parameters
    ----------
    config
        A configuration that :func:`spotwise.config.prepare` has completed.
    sheet
        The samples of its cohorts.

    Attributes
    ----------
    samples, sheet
        Sample ids in the order of the sample sheet, and what the sheet says of each.
    samples_of
        Cohort -> sample ids.
    patients, technologies
        Sample id -> patient, and technology, "" if unknown.
    folds
        (cohort, protocol) -> its :class:`FoldPlan`, in the order of the configuration.
    whole
        Cohort -> the plan of a training on all of its slides, fold 0 of the protocol `FINAL`.
    predictors
        Name -> :class:`spotwise.config.Predictor`, methods first.
    methods
        Methods that predict, in the order of the configuration, then tools whose predictions are imported; last the
        controls, of which those that learn nothing count as one, ``controls``.
    entries
        Entry of each method as configured, without those of the controls that are trained.
    gpus
        GPUs that a computing job asks for. A run configured for the CPU must not queue for any.
    """

    def __init__(self, config: Mapping, sheet: list[Sample]):
        self.config = config
        self.data = str(Path(config["data"]["root"]))
        self.results = f"results/{config['run']}"
        self.samples = [sample.sample for sample in sheet]
        columns = ("sample", "cohort", "patient", "technology")
        self.sheet = [{column: getattr(sample, column) for column in columns} for sample in sheet]
        self.patients = {sample.sample: sample.patient for sample in sheet}
        self.technologies = {sample.sample: sample.technology for sample in sheet}
        self.cohort_of = {sample.sample: sample.cohort for sample in sheet}
        self.samples_of = {name: [one.sample for one in members] for name, members in by_cohort(sheet).items()}
        plans = configuration.fold_plans(config, sheet)
        self.folds = configuration.plans_by_protocol(plans)
        self.whole = {cohort: plan_whole(members) for cohort, members in by_cohort(sheet).items()}
        self.tested_in = configuration.folds_that_test(plans)
        self.predictors = {predictor.name: predictor for predictor in configuration.predictors(config)}
        self.methods = list(dict.fromkeys(self.method_of(name) for name in self.predictors))
        self.entries = {name: entry for name, entry in config["methods"].items() if "shuffled" not in entry}
        self.external = list(config["external"])
        self.has_images = config["data"]["images"] != "none"
        self.gpus = 0 if config["training"]["device"] == "cpu" else 1

    # --- Methods and predictors ---------------------------------------------------------------------------------------

    def registered(self, method: str) -> Entry:
        """Return the registry's entry of a configured method."""
        return REGISTRY[self.config["methods"][method]["model"]]

    def methods_of_kind(self, *kinds: str) -> list[str]:
        """Return the configured methods whose class is of one of some kinds."""
        return [name for name in self.config["methods"] if self.registered(name).kind in kinds]

    def method_of(self, predictor: str) -> str:
        """Return the method behind a predictor, ``controls`` for every control that learns nothing."""
        known = self.predictors[predictor]
        learns_nothing = known.kind == CONTROL and known.method not in self.config["methods"]
        return CONTROLS if learns_nothing else known.method

    def predictors_of(self, method: str) -> list[str]:
        """Return the predictors of a method."""
        return [name for name in self.predictors if self.method_of(name) == method]

    def seeds_of(self, method: str) -> list[int]:
        """Return the seeds that a method or control runs with."""
        return configuration.seeds(self.config, method)

    @cached_property
    def trained_controls(self) -> list[str]:
        """Controls that are trained as the reference method is."""
        return [method for method in self.config["methods"] if method not in self.entries]

    @cached_property
    def drawn_predictors(self) -> list[str]:
        """The first predictor of each method, for figures with a panel for each."""
        controls = (CONTROLS, *self.trained_controls)
        return [self.predictors_of(method)[0] for method in self.methods if method not in controls]

    def methods_in(self, cohort: str, protocol: str) -> list[str]:
        """Return the methods with predictions of a cohort under a protocol, which another tool need not have."""
        return [name for name in self.methods if configuration.stands(self.config, name, cohort, protocol)]

    def section_methods(self, w: Wildcards) -> list[str]:
        """Return the methods with predictions of the wildcards' cohort and protocol."""
        return self.methods_in(w.cohort, w.protocol)

    def drawn_methods(self, w: Wildcards) -> list[str]:
        """Return those methods without the controls."""
        return [name for name in self.section_methods(w) if name not in (CONTROLS, *self.trained_controls)]

    def drawn_in_section(self, w: Wildcards) -> list[str]:
        """Return the first predictor of each of `drawn_methods`."""
        return [self.predictors_of(method)[0] for method in self.drawn_methods(w)]

    @cached_property
    def drawn_rivals(self) -> list[str]:
        """Predictors drawn side by side: `drawn_predictors`, the reference, and controls that are no bound."""
        controls = [name for name in self.config["controls"] if name not in BOUNDS]
        drawn = {*self.drawn_predictors, self.config["evaluation"].get("reference"), *controls}
        return [name for name in self.predictors if name in drawn]

    @cached_property
    def predictor_kinds(self) -> dict[str, list[str]]:
        """Predictor -> its method and kind, from which its look in all figures follows."""
        return {name: [predictor.method, predictor.kind] for name, predictor in self.predictors.items()}

    def code(self, script: str, *modules: str) -> Callable[[Wildcards], str]:
        """Return a parameter that changes with the code of a script, of ``modules`` and of the wildcards' method."""

        def version(w: Wildcards) -> str:
            method = w.get("method") or w.get("space")
            own = [f"spotwise.models.{self.registered(method).module}"] if method in self.config["methods"] else []
            return code_version(script, *modules, *own)

        return version

    # --- Samples ------------------------------------------------------------------------------------------------------

    def has_patches(self, sample: str) -> bool:
        """Tell whether a sample comes with HEST's own patches; else they are cut from its slide."""
        images, source = self.config["data"]["images"], self.config["data"]["source"]
        if images == "auto" and source == "local":
            return hest.sample_files(self.data, sample).patches.exists()
        return images == "patches" or (images == "auto" and source == "huggingface")

    def patches_of(self, samples: Iterable[str]) -> list[str]:
        """Return the patches of samples, as they come or as they are cut."""
        return [
            f"{self.data}/patches/{sample}.h5"
            if self.has_patches(sample)
            else f"{self.results}/samples/{sample}/patches.h5"
            for sample in samples
        ]

    def sample_patches(self, w: Wildcards) -> str:
        """Return the patches of a sample."""
        return self.patches_of([w.sample])[0]

    def fold_patches(self, w: Wildcards) -> list[str]:
        """Return the patches of a fold's slides."""
        return self.patches_of(self.fold_samples(w))

    def cohort_patches(self, w: Wildcards) -> list[str]:
        """Return the patches of a cohort."""
        return self.patches_of(self.samples_of[w.cohort])

    def slide(self, w: Wildcards) -> str:
        """Return the slide of a sample; one of the user's own may have any of several names."""
        files = hest.sample_files(self.data, w.sample)
        return str(files.slide if self.config["data"]["source"] == "local" else files.hest_slide)

    def slide_to_cut(self, w: Wildcards) -> str | list:
        """Return the slide of a sample that comes without patches."""
        return self.slide(w) if self.has_images and not self.has_patches(w.sample) else []

    def patches_to_use(self, w: Wildcards) -> str | list:
        """Return the patches that a sample comes with."""
        return self.sample_patches(w) if self.has_images and self.has_patches(w.sample) else []

    def metadata(self, w: Wildcards) -> str | list:
        """Return HEST's metadata of a sample; a run on counts alone reads none."""
        return str(hest.sample_files(self.data, w.sample).metadata) if self.has_images else []

    def cohort_metadata(self, w: Wildcards) -> list[str]:
        """Return HEST's metadata of the slides of a cohort; a run on counts alone reads none."""
        samples = self.samples_of[w.cohort] if self.has_images else []
        return [str(hest.sample_files(self.data, sample).metadata) for sample in samples]

    def cohort_samples(self, w: Wildcards) -> list[str]:
        """Return the slides of a cohort."""
        return self.samples_of[w.cohort]

    def place_in_cohort(self, w: Wildcards) -> str:
        """Return whether a sample is the ``first``, the ``last`` or an ``inner`` one of its cohort."""
        members = self.samples_of[self.cohort_of[w.sample]]
        return {members[0]: "first", members[-1]: "last"}.get(w.sample, "inner")

    # --- Download -----------------------------------------------------------------------------------------------------

    @cached_property
    def manifest(self) -> str:
        """Record of a download, by revision, as runs that pin others may share the folder."""
        return manifest.manifest_path(self.data, str(self.config["data"].get("revision")), "{sample}").as_posix()

    def repository_files(self, sample: str) -> list[str]:
        """Return the paths of a sample's files inside the dataset repository."""
        files = hest.sample_files("", sample)
        image = files.patches if self.has_patches(sample) else files.hest_slide
        return [path.as_posix() for path in (files.counts, files.metadata, image)]

    def downloaded(self, samples: Iterable[str]) -> list[str]:
        """Return the manifests of samples; files in the data folder without one are fetched anew."""
        fetched = self.config["data"]["source"] == "huggingface"
        return [self.manifest.format(sample=sample) for sample in samples if fetched]

    @property
    def locked_folders(self) -> list[str]:
        """Folders in which no other run may write meanwhile; downloads have locks of their own."""
        return [self.results, self.data] if self.config["data"]["source"] == "generated" else [self.results]

    def require_downloads(self) -> None:
        """Stop when a downloaded file has changed, or one is missing and there is no token.

        Raises
        ------
        InputError, SetupError
            As :func:`spotwise.data.manifest.require`.
        """
        if self.config["data"]["source"] == "huggingface":
            files = {sample: self.repository_files(sample) for sample in self.samples}
            manifest.require(self.config["data"]["root"], self.config["data"]["revision"], files)

    # --- Folds and training -------------------------------------------------------------------------------------------

    def fold(self, w: Wildcards) -> FoldPlan:
        """Return the plan of a fold."""
        return self.whole[w.cohort] if w.protocol == FINAL else self.folds[w.cohort, w.protocol][int(w.fold)]

    def fold_numbers(self, w: Wildcards) -> list[int]:
        """Return the folds of a cohort and protocol."""
        return [fold.fold for fold in self.folds[w.cohort, w.protocol]]

    def fold_samples(self, w: Wildcards) -> list[str]:
        """Return the training slides of a fold, then its test slides."""
        return [*self.fold(w).train, *self.fold(w).test]

    def fold_patients(self, w: Wildcards) -> dict[str, str]:
        """Return the patient of each slide of a fold."""
        return {sample: self.patients[sample] for sample in self.fold_samples(w)}

    def training_samples(self, w: Wildcards) -> list[str]:
        """Return the training slides of a fold."""
        return list(self.fold(w).train)

    def training_patches(self, w: Wildcards) -> list[str]:
        """Return the patches of a fold's training slides."""
        return self.patches_of(self.fold(w).train)

    def embedded_samples(self, w: Wildcards) -> list[str]:
        """Return the slides whose frozen features a method uses: of the fold it trains on, or of the cohort."""
        if not self.registered(w.method).uses_encoder:
            return []
        return self.training_samples(w) if w.get("fold") else self.samples_of[w.cohort]

    def features(self, w: Wildcards) -> str:
        """Return the folder of the frozen features of a method."""
        settings = self.config["methods"][w.method]
        kind = "context" if self.registered(w.method).has_context else "embeddings"
        return f"{kind}/{settings.get('encoder', '')}"

    def training_fold(self, w: Wildcards) -> str:
        """Return the name of the fold a method learns from, whose expression may be corrected or shuffled."""
        entry = self.config["methods"][w.method]
        name = "fold_harmony" if entry["harmony"] else "fold_centred" if entry["targets"] == SLIDE_CENTRED else "fold"
        return f"{name}_shuffled_{entry['shuffled']}.h5" if "shuffled" in entry else f"{name}.h5"

    def training_fold_path(self, w: Wildcards) -> str:
        """Return the fold a method learns from."""
        return f"{self.results}/folds/{w.cohort}/{w.protocol}/fold{w.fold}/{self.training_fold(w)}"

    def preparation(self, w: Wildcards) -> dict[str, object]:
        """Return how expression and features of a method are prepared, for the description of its models."""
        entry = self.config["methods"][w.method]
        return {key: entry[key] for key in ("harmony", "targets", "features", "shuffled") if key in entry}

    def seeds(self, w: Wildcards) -> list[int]:
        """Return the seeds of a method."""
        return self.seeds_of(w.method)

    @cached_property
    def decisive_training(self) -> dict[str, object]:
        """Settings under ``training`` that decide the result of any training."""
        return {key: value for key, value in self.config["training"].items() if key not in INDECISIVE}

    def training(self, w: Wildcards) -> dict[str, object]:
        """Return how a method is trained."""
        return self.decisive_training | self.config["methods"][w.method]["training"]

    def encoder_weights(self, w: Wildcards) -> str | list:
        """Return the local file with the weights of a frozen encoder, or that a method's encoder starts from."""
        if w.get("encoder"):
            return self.config["encoders"][w.encoder]["checkpoint"] or []
        return self.config["methods"][w.method]["options"].get("checkpoint") or []

    def trainings(self, w: Wildcards) -> list[str]:
        """Return the trainings of a cohort and protocol to draw, without controls, as ``method/fold0/seed0``."""
        return [
            f"{method}/fold{fold}/seed{seed}"
            for method in self.methods_of_kind("retrieval", "regression")
            if method in self.entries
            for fold in self.fold_numbers(w)
            for seed in self.seeds_of(method)
        ]

    # --- Prediction and scores ----------------------------------------------------------------------------------------

    def settings(self, w: Wildcards) -> list[dict[str, object]]:
        """Return name, K and matching of each predictor of a method."""
        chosen = (self.predictors[name] for name in self.predictors_of(w.method))
        return [{"name": one.name, "k": one.k, "matching": one.matching} for one in chosen]

    def predictor_kind(self, w: Wildcards) -> str:
        """Return whether scores of a method are those of a ``method`` or of a ``control``."""
        return METHOD if w.method in self.entries else CONTROL

    def ceiling_samples(self, w: Wildcards) -> list[str]:
        """Return the slides of a cohort whose noise ceiling a control shows."""
        return self.samples_of[w.cohort] if "NoiseCeiling" in self.config["controls"] else []

    def prediction(self, predictor: str, fold: int, seed: int, sample: str) -> str:
        """Return the prediction of a slide as it lies in the folder that the job of its method writes."""
        return f"fold{fold}/seed{seed}/{predictor}/{sample}.h5ad"

    def predictions(self, w: Wildcards) -> list[str]:
        """Return all predictions of a method in its folder, by predictor, fold, seed and test slide."""
        return [
            self.prediction(name, fold.fold, seed, sample)
            for name in self.predictors_of(w.method)
            for fold in self.folds[w.cohort, w.protocol]
            for seed in self.seeds_of(self.predictors[name].method)
            for sample in fold.test
        ]

    def drawn_predictions(self, w: Wildcards) -> list[str]:
        """Return the prediction of a slide by each drawn predictor, first seed, in the folder of its method."""
        fold = self.tested_in[w.cohort, w.protocol, w.sample]
        first = {name: self.seeds_of(self.predictors[name].method)[0] for name in self.drawn_in_section(w)}
        return [self.prediction(name, fold, seed, w.sample) for name, seed in first.items()]

    # --- Tables and figures -------------------------------------------------------------------------------------------

    @cached_property
    def sections(self) -> list[str]:
        """Every ``cohort/protocol``, in the order of the configuration."""
        return ["/".join(section) for section in self.folds]

    @cached_property
    def scored(self) -> list[str]:
        """Every ``cohort/protocol/method`` with scores."""
        return [f"{'/'.join(section)}/{method}" for section in self.folds for method in self.methods_in(*section)]

    @cached_property
    def fold_names(self) -> list[str]:
        """Every ``cohort/protocol/fold0``."""
        return [f"{'/'.join(section)}/fold{fold.fold}" for section, folds in self.folds.items() for fold in folds]

    @cached_property
    def models(self) -> dict[str, str]:
        """Every ``cohort/protocol/method/fold0/seed0`` -> its method."""
        return {
            f"{'/'.join(section)}/{method}/fold{fold.fold}/seed{seed}": method
            for method in self.methods
            if method in self.config["methods"]
            for section, folds in self.folds.items()
            for fold in folds
            for seed in self.seeds_of(method)
        }

    @cached_property
    def markers(self) -> dict[str, list[str]]:
        """Cohort -> its marker genes."""
        return {name: settings["markers"] for name, settings in self.config["cohorts"].items()}

    @cached_property
    def section_figures(self) -> list[str]:
        """Figures of a cohort and protocol for which the run has scores."""
        drawn = {
            "boxplot": True,
            "curves": self.methods_of_kind("retrieval", "regression"),
            "neighbours": self.methods_of_kind("retrieval"),
            "ceiling": "NoiseCeiling" in self.config["controls"],
        }
        return [name for name, possible in drawn.items() if possible]

    @cached_property
    def protocols(self) -> list[str]:
        """Protocols of the run."""
        return list(dict.fromkeys(protocol for _, protocol in self.folds))

    @cached_property
    def compares_protocols(self) -> bool:
        """Whether a cohort runs under both protocols."""
        return any(all((cohort, one) in self.folds for one in PROTOCOLS) for cohort in self.config["cohorts"])

    def drawn_genes(self, w: Wildcards) -> list[str]:
        """Return the genes to draw over slides, first those that the configuration names."""
        settings = self.config["cohorts"][w.cohort]
        return settings["genes"] or settings["markers"][:4]

    @cached_property
    def tables(self) -> list[str]:
        """The table of samples, where there are any, and tables of the scores where something is predicted."""
        averages = ("table1", "table2", "table3", "table4", "table5", "markers")
        names = [f"{name}.{kind}" for name in averages for kind in ("csv", "md", "tex")]
        names += ["measures.csv", "measures.md", "comparisons.csv", "intervals.csv"]
        names += ["costs.csv"] if self.models else []
        names += ["external.csv", "external.md"] if self.external else []
        names += ["paper_vs_ours.csv", "paper_vs_ours.md", "paper_vs_ours.html", "leaks.csv", "leaks.md"]
        return [*(["samples.csv", "samples.md"] if self.samples else []), *(names if self.predictors else [])]

    @cached_property
    def figures(self) -> list[str]:
        """Figures of the scores and predictions; none where nothing is predicted."""
        names = [f"overview_{protocol}" for protocol in self.protocols] if self.predictors else []
        names += ["costs"] if self.models else []
        names += ["protocols"] if self.compares_protocols else []
        for cohort, protocol in self.folds:
            names += [f"{cohort}/{protocol}/{name}" for name in self.section_figures]
            kinds = ("correlation", "maps", "profiles", "genes")
            samples = self.samples_of[cohort] if self.methods_in(cohort, protocol) != [CONTROLS] else []
            names += [f"{cohort}/{protocol}/{kind}_{sample}" for sample in samples for kind in kinds]
        return [f"figures/{name}.png" for name in names]

    @cached_property
    def timed_models(self) -> list[str]:
        """Where Snakemake notes the time of each of `models`, below ``benchmarks/``."""
        frozen = self.methods_of_kind("frozen")
        return [f"{'fit_frozen' if method in frozen else 'train'}/{model}.tsv" for model, method in self.models.items()]

    @cached_property
    def timed_embeddings(self) -> dict[str, list[str]]:
        """Frozen features -> where Snakemake notes the time of each sample, below ``benchmarks/``."""
        found = {}
        for name, settings in self.config["methods"].items():
            if self.registered(name).has_context:
                found[f"{settings['encoder']}, context"] = f"embed_context/{settings['encoder']}"
            elif "encoder" in settings:
                found[settings["encoder"]] = f"embed_patches/{settings['encoder']}"
        return {name: [f"{folder}/{sample}.tsv" for sample in self.samples] for name, folder in found.items()}
