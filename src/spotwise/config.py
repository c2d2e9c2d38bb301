"""The configuration: checked against its schema, completed with defaults, asked by the rules.

What is wrong with a configuration is found here, before any job starts, and told in one line; only ranges of a
method's own options wait for its job, as checking them imports the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spotwise.contracts import PATIENT
from spotwise.errors import InputError, one_of
from spotwise.models import REGISTRY, check_options
from spotwise.samples import FoldPlan, Sample, patients, plan_folds, read_samples
from spotwise.schema import validate


@dataclass(frozen=True)
class Predictor:
    """A method together with its inference setting: one row of every table.

    Attributes
    ----------
    name
        ``CMRCNet-50``: the method's name, and K where a method retrieves (``BLEEP-50-weighted``: and how).
    method
        Its entry under ``methods`` (or ``controls``) in the configuration.
    kind
        Kind of its class in the registry: ``retrieval``, ``regression``, ``frozen`` or ``control``.
    k
        Number of retrieved spots, 0 where none are retrieved.
    matching
        How these are averaged: ``average`` or ``weighted``.
    """

    name: str
    method: str
    kind: str
    k: int = 0
    matching: str = "average"


def prepare(config: dict, where: str = "config") -> list[Sample]:
    """Check the whole configuration, fill its defaults in place, and read its samples.

    Returns
    -------
    The samples of the configured cohorts, in the order of the sample sheet.

    Raises
    ------
    InputError
        For a key, type, method, sample, patient or cohort that cannot be run as configured.
    """
    validate(config, "config.schema.yaml", where)
    _refuse_markup(config, where)
    sheet = read_samples(config["samples"])
    chosen = [sample for sample in sheet if sample.cohort in config["cohorts"]]
    data = config["data"]
    if data["source"] == "generated" and data["images"] == "patches":
        raise InputError(where, "data.images", "'patches'", "auto or slides: a generated cohort has slides only")
    for name in data["generated"]["unlinked"]:
        if name not in (known := sorted({sample.cohort for sample in sheet})):
            raise InputError(where, "data.generated.unlinked", repr(name), one_of(known, name))
    for name, settings in config["cohorts"].items():
        members = [sample for sample in chosen if sample.cohort == name]
        if not members:
            known = sorted({sample.cohort for sample in sheet})
            raise InputError(where, f"cohorts.{name}", f"no sample of it in {config['samples']}", one_of(known, name))
        if len(members) < 2:
            raise InputError(
                config["samples"], f"cohort {name}", "one sample", "at least two: one to test on, one to train on"
            )
        settings.setdefault("protocols", list(config["protocols"]))
        if PATIENT in settings["protocols"] and len(patients(members)) < 2:
            raise InputError(
                where,
                f"cohorts.{name}.protocols",
                f"the patient protocol with one patient ({members[0].patient})",
                f"at least two patients in {config['samples']}, or cohorts.{name}.protocols: [paper]",
            )
    _check_methods(config, where)
    return chosen


def _refuse_markup(value: object, where: str, field: str = "") -> None:
    """Refuse ``<`` anywhere: Snakemake writes parameters of jobs into a script of the report as they are."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_markup(str(key), where, field)
            _refuse_markup(item, where, f"{field}.{key}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            _refuse_markup(item, where, field)
    elif isinstance(value, str) and "<" in value:
        raise InputError(where, field or "(top level)", repr(value), "text without '<'")


def _check_methods(config: Mapping, where: str) -> None:
    for name, settings in config["methods"].items():
        field = f"methods.{name}"
        model = settings.setdefault("model", name)
        if model not in REGISTRY or REGISTRY[model].kind == "control":
            known = sorted(key for key, entry in REGISTRY.items() if entry.kind != "control")
            raise InputError(where, f"{field}.model", repr(model), one_of(known, model))
        registered = REGISTRY[model]
        if registered.kind == "retrieval" and not settings["neighbours"]:
            raise InputError(where, f"{field}.neighbours", "nothing", "a list of K, e.g. [50], as it retrieves spots")
        for key, idle, why in (
            ("neighbours", [], None if registered.kind == "retrieval" else "retrieves no spots"),
            ("matching", ["average"], None if registered.kind == "retrieval" else "retrieves no spots"),
            ("harmony", False, None if registered.trained else "is fitted on uncorrected expression"),
            ("training", {}, None if registered.trained else "is fitted, not trained"),
        ):
            if why and settings[key] != idle:
                raise InputError(where, f"{field}.{key}", settings[key], f"none: {model} {why}")
        if registered.uses_encoder and settings.get("encoder") not in config["encoders"]:
            found = settings.get("encoder")
            raise InputError(
                where, f"{field}.encoder", repr(found), f"a key of encoders: {one_of(config['encoders'], found)}"
            )
        if not registered.uses_encoder and "encoder" in settings:
            raise InputError(where, f"{field}.encoder", repr(settings["encoder"]), f"none: {model} has its own encoder")
        check_options(model, settings["options"], f"{where}: {field}.options")
        _check_file(settings["options"].get("checkpoint"), where, f"{field}.options.checkpoint")
    for name, encoder in config["encoders"].items():
        _check_file(encoder["checkpoint"], where, f"encoders.{name}.checkpoint")
    for name in config["controls"]:
        if name not in REGISTRY or REGISTRY[name].kind != "control":
            known = sorted(key for key, entry in REGISTRY.items() if entry.kind == "control")
            raise InputError(where, "controls", repr(name), one_of(known, name))
    names = [predictor.name for predictor in predictors(config)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(where, "methods", f"two predictors named {twice[0]}", "names that stay apart with their K")
    reference = config["evaluation"].setdefault("reference", names[0])
    if reference not in names:
        raise InputError(where, "evaluation.reference", repr(reference), one_of(names, reference))


def _check_file(path: str | None, where: str, field: str) -> None:
    if path and not Path(path).is_file():
        raise InputError(where, field, f"no file {path}", "a file with an encoder's weights")


def predictors(config: Mapping) -> list[Predictor]:
    """Every predictor of the run, methods first, in the order of the configuration."""
    found = []
    for name, settings in config["methods"].items():
        kind = REGISTRY[settings["model"]].kind
        if kind == "retrieval":
            for matching, suffix in (("average", ""), ("weighted", "-weighted")):
                if matching in settings["matching"]:
                    # the weight of a single match is 1 either way
                    several = [k for k in settings["neighbours"] if k > 1 or matching == settings["matching"][0]]
                    found += [Predictor(f"{name}-{k}{suffix}", name, kind, k, matching) for k in several]
        else:
            found.append(Predictor(name, name, kind))
    return found + [Predictor(name, name, "control") for name in config["controls"]]


def seeds(config: Mapping, method: str) -> list[int]:
    """The seeds a method runs with: all of them, or only the first where nothing in it is random."""
    model = config["methods"][method]["model"] if method in config["methods"] else method
    return list(config["seeds"]) if REGISTRY[model].seeded else list(config["seeds"][:1])


def fold_plans(config: Mapping, samples: list[Sample]) -> dict[tuple[str, str, int], FoldPlan]:
    """Every fold of the run by (cohort, protocol, fold), known before any data is there."""
    return {
        (cohort, protocol, plan.fold): plan
        for cohort, settings in config["cohorts"].items()
        for protocol in settings["protocols"]
        for plan in plan_folds([sample for sample in samples if sample.cohort == cohort], protocol)
    }
