"""Checks of a configuration against its settings, the sample sheet, the registry and the files that it names.

Every fault of a configuration is found here, before any job starts, and reported in one line. Only names of timm models
wait for their job, because timm imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spotwise.config.predict_checks import check_predict
from spotwise.config.predictors import CONTROL_NAMES, add_shuffled, predictors, predicts, stands
from spotwise.config.settings import Config
from spotwise.constants import BASELINE_SPACES, COHORT, CONTROLS, EXPRESSION_SPACES, PATIENT, SLIDE, SLIDE_CENTRED
from spotwise.data.sample_sheet import Sample, by_cohort, patients, read_samples
from spotwise.errors import InputError, one_of
from spotwise.models.registry import REGISTRY, options
from spotwise.runtime.validation import fill, validated

# Kinds of methods that can learn from expression corrected by Harmony, and of those whose embeddings are a space
CORRECTABLE = ("retrieval", "regression")
EMBEDDING = ("retrieval", "clustering")
# Kinds of methods whose features cannot be centred on each slide, and why
UNCENTRED = {
    "regression": "has no features to centre, and a constant per slide in its output changes no correlation on a slide",
    "clustering": "embeds slides as they are",
}
CENTRES_ITSELF = "centres slides by its own options"
# Settings that change what a method embeds, with the values that change nothing
CORRECTIONS = {"harmony": False, "targets": "log", "features": "raw"}
WEIGHTS = "a file with an encoder's weights"


def run_samples(config: Mapping) -> list[Sample]:
    """Read the samples of the cohorts of a configuration that :func:`prepare` has completed."""
    if not config["cohorts"]:
        return []
    return [sample for sample in read_samples(config["samples"]) if sample.cohort in config["cohorts"]]


def prepare(config: dict, where: str = "config") -> list[Sample]:
    """Check the whole configuration, add its defaults in place, and read its samples.

    A run of the HEST benchmark alone has no samples.

    Parameters
    ----------
    config
        The configuration as read from files and the command line.
    where
        Its files, for messages.

    Returns
    -------
    list of Sample
        Samples of the configured cohorts, in the order of the sample sheet.

    Raises
    ------
    InputError
        For a key, type, method, sample, patient or cohort that cannot be run as configured.
    """
    fill(config, validated(Config, config, where))
    _refuse_markup(config, where)
    if "hest_bench" in config:
        _check_hest_bench(config, where)
    if not config["cohorts"]:
        return []
    sheet = read_samples(config["samples"])
    chosen = [sample for sample in sheet if sample.cohort in config["cohorts"]]
    data = config["data"]
    if data["source"] == "generated" and data["images"] == "patches":
        raise InputError(where, "data.images", "'patches'", "auto or slides: a generated cohort has slides only")
    if data["images"] == "none" and data["source"] != "local":
        raise InputError(where, "data.images", "'none'", f"images, as source {data['source']} has them")
    _check_spaces(config, where)
    _check_methods(config, where)
    for name in data["generated"]["unlinked"]:
        if name not in (known := sorted({sample.cohort for sample in sheet})):
            raise InputError(where, "data.generated.unlinked", repr(name), one_of(known, name))
    members_of = by_cohort(chosen)
    for name, settings in config["cohorts"].items():
        members = members_of.get(name)
        if not members:
            known = sorted({sample.cohort for sample in sheet})
            raise InputError(where, f"cohorts.{name}", f"no sample of it in {config['samples']}", one_of(known, name))
        settings.setdefault("protocols", list(config["protocols"]))
        if not predicts(config):
            continue
        if len(members) < 2:
            raise InputError(
                config["samples"], f"cohort {name}", "one sample", "at least two: one to test on, one to train on"
            )
        if PATIENT in settings["protocols"] and len(patients(members)) < 2:
            raise InputError(
                where,
                f"cohorts.{name}.protocols",
                f"the patient protocol with one patient ({members[0].patient})",
                f"at least two patients in {config['samples']}, or cohorts.{name}.protocols: [paper]",
            )
    _check_external(config, where)
    if predicts(config):
        _check_predictors(config, where)
    if "predict" in config:
        check_predict(config, where)
    add_shuffled(config, where)
    if "structure" in config:
        _check_structure(config, [sample.sample for sample in chosen], where)
    return chosen


def _refuse_markup(value: object, where: str, field: str = "") -> None:
    """Refuse ``<`` anywhere, because Snakemake copies parameters of jobs into a script of its report."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_markup(str(key), where, field)
            _refuse_markup(item, where, f"{field}.{key}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            _refuse_markup(item, where, field)
    elif isinstance(value, str) and "<" in value:
        raise InputError(where, field or "(top level)", repr(value), "text without '<'")


def _check_spaces(config: Mapping, where: str) -> None:
    """Check the names of the spaces, before a method is missed among them."""
    models = {name: settings.get("model", name) for name, settings in config["methods"].items()}
    embedding = [name for name, model in models.items() if model not in REGISTRY or REGISTRY[model].kind in EMBEDDING]
    known = [*embedding, *BASELINE_SPACES]
    for space in config.get("structure", {}).get("spaces", []):
        if space not in known:
            raise InputError(where, "structure.spaces", repr(space), one_of(known, space))


def _check_methods(config: Mapping, where: str) -> None:
    if not config["methods"] and not config["external"] and not {"structure", "hest_bench"} & set(config):
        expected = "a method, predictions under external, or a section structure or hest_bench"
        raise InputError(where, "methods", "nothing", expected)
    if config["methods"] and config["data"]["images"] == "none":
        raise InputError(where, "methods", next(iter(config["methods"])), "no method where data.images is none")
    for name, settings in config["methods"].items():
        field = f"methods.{name}"
        if name == CONTROLS:
            raise InputError(where, field, repr(name), "another name, as this one stands for all controls in paths")
        if name in CONTROL_NAMES:
            raise InputError(where, field, repr(name), "another name, as a control has this one")
        model = settings.setdefault("model", name)
        if model not in REGISTRY or REGISTRY[model].kind == "control":
            known = sorted(key for key, entry in REGISTRY.items() if entry.kind != "control")
            raise InputError(where, f"{field}.model", repr(model), one_of(known, model))
        registered = REGISTRY[model]
        if registered.kind == "retrieval" and not settings["neighbours"]:
            raise InputError(where, f"{field}.neighbours", "nothing", "a list of K, e.g. [50], as it retrieves spots")
        if not registered.predicts:
            settings.setdefault("scope", SLIDE)
            if name not in config.get("structure", {}).get("spaces", []):
                raise InputError(where, field, "a clustering method", "its name among structure.spaces")
        elif "scope" in settings:
            raise InputError(where, f"{field}.scope", settings["scope"], f"none: {model} is trained on folds")
        for key, idle, why in (
            ("neighbours", [], None if registered.kind == "retrieval" else "retrieves no spots"),
            ("matching", ["average"], None if registered.kind == "retrieval" else "retrieves no spots"),
            ("harmony", False, None if registered.kind in CORRECTABLE else "is fitted on uncorrected expression"),
            ("targets", "log", CENTRES_ITSELF if registered.has_context else None),
            ("targets", "log", None if registered.predicts else "is trained on uncorrected expression"),
            ("features", "raw", CENTRES_ITSELF if registered.has_context else UNCENTRED.get(registered.kind)),
            ("training", {}, None if registered.trained else "is fitted, not trained"),
        ):
            if why and settings[key] != idle:
                raise InputError(where, f"{field}.{key}", settings[key], f"none: {model} {why}")
        if settings["harmony"] and settings["targets"] == SLIDE_CENTRED:
            expected = "log beside harmony: true, as each of the two corrects expression for its slide"
            raise InputError(where, f"{field}.targets", settings["targets"], expected)
        if registered.uses_encoder and settings.get("encoder") not in config["encoders"]:
            found = settings.get("encoder")
            raise InputError(
                where, f"{field}.encoder", _shown(found), f"a key of encoders: {one_of(config['encoders'], found)}"
            )
        if not registered.uses_encoder and "encoder" in settings:
            raise InputError(where, f"{field}.encoder", repr(settings["encoder"]), f"none: {model} has its own encoder")
        settings["options"] = options(model, settings["options"], where, f"{field}.options").model_dump()
        _check_file(settings["options"].get("checkpoint"), where, f"{field}.options.checkpoint")
    _check_checkpoints(config, where)
    for name in config["controls"]:
        if name not in CONTROL_NAMES:
            raise InputError(where, "controls", repr(name), one_of(CONTROL_NAMES, name))


def _check_external(config: Mapping, where: str) -> None:
    """Check names and cohorts of predictions by other tools, and complete the sections that they stand in."""
    for name, entry in config["external"].items():
        field = f"external.{name}"
        if config["data"]["images"] == "none":
            raise InputError(
                where, field, "predictions", "none where data.images is none: folds hold spots with images"
            )
        if name == CONTROLS or name in config["methods"] or name in CONTROL_NAMES:
            raise InputError(where, field, repr(name), "another name, as methods or controls have this one")
        entry.setdefault("protocols", list(config["protocols"]))
        for cohort in entry.setdefault("cohorts", list(config["cohorts"])):
            if cohort not in config["cohorts"]:
                raise InputError(where, f"{field}.cohorts", repr(cohort), one_of(config["cohorts"], cohort))
        if not any(stands(config, name, *section) for section in _sections(config)):
            run = ", ".join(f"{cohort} under {protocol}" for cohort, protocol in _sections(config))
            found = f"{' or '.join(entry['protocols'])}, which none of its cohorts has"
            raise InputError(where, f"{field}.protocols", found, f"one that this run has: {run}")


def _sections(config: Mapping) -> list[tuple[str, str]]:
    return [(name, protocol) for name, settings in config["cohorts"].items() for protocol in settings["protocols"]]


def _check_predictors(config: Mapping, where: str) -> None:
    """Check that names differ, and the reference of the box plots: by default the first one that stands everywhere."""
    found = predictors(config)
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(where, "methods", f"two predictors named {twice[0]}", "names that stay apart with their K")
    everywhere = [
        one.name for one in found if all(stands(config, one.method, *section) for section in _sections(config))
    ]
    if not everywhere:
        raise InputError(where, "controls", "none", "one at least, as no predictor stands in all cohorts and protocols")
    reference = config["evaluation"].setdefault("reference", everywhere[0])
    if reference not in everywhere:
        raise InputError(where, "evaluation.reference", repr(reference), one_of(everywhere, reference))


def _check_checkpoints(config: Mapping, where: str) -> None:
    for name, encoder in config["encoders"].items():
        _check_file(encoder["checkpoint"], where, f"encoders.{name}.checkpoint")


def _check_hest_bench(config: Mapping, where: str) -> None:
    _check_checkpoints(config, where)
    for name in config["hest_bench"]["encoders"]:
        if name not in config["encoders"]:
            expected = f"a key of encoders: {one_of(config['encoders'], name)}"
            raise InputError(where, "hest_bench.encoders", repr(name), expected)


def _shown(value: object) -> str:
    """Show a value of the configuration, or that there is none."""
    return "nothing" if value is None else repr(value)


def _check_structure(config: Mapping, samples: list[str], where: str) -> None:
    structure, methods = config["structure"], config["methods"]
    if COHORT in samples:
        raise InputError(config["samples"], "sample", repr(COHORT), "another id: it names models of all slides")
    for sample in structure.setdefault("slides", list(samples)):
        if sample not in samples:
            raise InputError(where, "structure.slides", repr(sample), one_of(samples, sample))
    for space in structure["spaces"]:
        for key, idle in CORRECTIONS.items():
            if space in methods and methods[space][key] != idle:
                found, expected = (str(value).lower() for value in (methods[space][key], idle))
                expected += " for a method whose embedding is a space: slides to embed are not corrected"
                raise InputError(where, f"methods.{space}.{key}", found, expected)
        if space in methods and space in BASELINE_SPACES:
            raise InputError(where, f"methods.{space}", "a name that a space has", "another name for the method")
        if config["data"]["images"] == "none" and space not in EXPRESSION_SPACES:
            expected = f"{' or '.join(EXPRESSION_SPACES)}, as data.images is none"
            raise InputError(where, "structure.spaces", repr(space), expected)
    encoder = structure.get("encoder")
    if {"Image", "Concatenation"} & set(structure["spaces"]) and encoder not in config["encoders"]:
        raise InputError(
            where, "structure.encoder", _shown(encoder), f"a key of encoders: {one_of(config['encoders'], encoder)}"
        )
    if structure["domains"] is None and "labels" not in structure:
        raise InputError(where, "structure.domains", "null without labels", "a number of domains, or structure.labels")


def require_labels(config: Mapping, where: str) -> None:
    """Check that the CSVs with the known domains of the slides can be read.

    Raises
    ------
    InputError
        Naming the first missing or unreadable file.
    """
    for sample in config["structure"]["slides"] if "structure" in config else ():
        path = label_file(config, sample)
        _check_file(path, where, "structure.labels.file", "a CSV with the labels of each slide")


def label_file(config: Mapping, sample: str) -> Path | None:
    """Return the CSV with the known domains of a slide, or ``None`` if they are in its ``.h5ad`` or unknown."""
    pattern = config["structure"].get("labels", {}).get("file")
    return Path(config["data"]["root"]) / pattern.replace("{sample}", sample) if pattern else None


def _check_file(path: str | Path | None, where: str, field: str, expected: str = WEIGHTS) -> None:
    if path:
        try:
            with open(path, "rb"):
                pass
        except FileNotFoundError:
            raise InputError(where, field, f"no file {path}", expected) from None
        except OSError as error:
            raise InputError(where, field, f"{path}: {error.strerror}", expected) from None
