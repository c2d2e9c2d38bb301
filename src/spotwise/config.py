"""The configuration: checked against its schema, completed with defaults, asked by the rules.

What is wrong with a configuration is found here, before any job starts, and told in one line; only ranges of a
method's own options wait for its job, as checking them imports the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from spotwise.constants import BASELINE_SPACES, COHORT, EXPRESSION_SPACES, PATIENT, SLIDE
from spotwise.data.sample_sheet import FoldPlan, Sample, by_cohort, patients, plan_folds, read_samples
from spotwise.errors import InputError, one_of
from spotwise.models.registry import REGISTRY, options
from spotwise.runtime.schema import validate

# Kinds of methods that can learn from expression corrected by Harmony, and of those whose embeddings are a space
CORRECTABLE = ("retrieval", "regression")
EMBEDDING = ("retrieval", "clustering")
# YAML's tag of `<<`, and the key with which Snakemake takes a configuration for a template of YTE, which runs Python
MERGE = "tag:yaml.org,2002:merge"
TEMPLATE = "__use_yte__"


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


class _StrictLoader(yaml.SafeLoader):
    """YAML without tags of Python, in which no key may stand twice: of two values the first one would be lost."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_config(path: str | Path) -> dict:
    """Read a configuration: YAML (or JSON) without Python in it, every key once.

    Raises
    ------
    InputError
        For what is missing, no YAML, holds a key twice or a tag, or has no keys at the top level.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "configuration", "no such file", "a configuration in YAML")
    try:
        config = yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", "YAML in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else "content"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(path, line, problem, "plain YAML, each key once") from None
    except RecursionError:
        raise InputError(path, "content", "brackets or aliases without end", "plain YAML") from None
    if not isinstance(config, dict):
        raise InputError(path, "top level", type(config).__name__ if config else "nothing", "keys with values")
    if TEMPLATE in config:
        raise InputError(path, TEMPLATE, "a program", "a configuration that runs no Python of its own")
    return config


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
    if data["images"] == "none" and data["source"] != "local":
        raise InputError(where, "data.images", "'none'", f"images, as source {data['source']} has them")
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
    if "structure" in config:
        _check_structure(config, [sample.sample for sample in chosen], where)
    return chosen


def typed(value: object) -> object:
    """A value of the command line with the types that YAML gives it in a file.

    Snakemake reads ``--config seeds=[0]`` as a list of texts: whole numbers, other numbers, ``true`` and
    ``false`` within lists and mappings are taken for what they look like. ``null`` stays a text: it may be a name.
    """
    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if not isinstance(value, str):
        return value
    for number in (int, float):
        with suppress(ValueError):
            return number(value)
    return {"true": True, "false": False}.get(value, value)


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
    if not config["methods"] and "structure" not in config:
        raise InputError(where, "methods", "nothing", "a method, or a section structure")
    if config["methods"] and config["data"]["images"] == "none":
        raise InputError(where, "methods", next(iter(config["methods"])), "no method where data.images is none")
    for name, settings in config["methods"].items():
        field = f"methods.{name}"
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
        settings["options"] = options(model, settings["options"], where, f"{field}.options").model_dump()
        _check_file(settings["options"].get("checkpoint"), where, f"{field}.options.checkpoint")
    for name, encoder in config["encoders"].items():
        _check_file(encoder["checkpoint"], where, f"encoders.{name}.checkpoint")
    for name in config["controls"]:
        if name not in REGISTRY or REGISTRY[name].kind != "control":
            known = sorted(key for key, entry in REGISTRY.items() if entry.kind == "control")
            raise InputError(where, "controls", repr(name), one_of(known, name))
    if not predicts(config):
        return
    names = [predictor.name for predictor in predictors(config)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(where, "methods", f"two predictors named {twice[0]}", "names that stay apart with their K")
    reference = config["evaluation"].setdefault("reference", names[0])
    if reference not in names:
        raise InputError(where, "evaluation.reference", repr(reference), one_of(names, reference))


def _check_structure(config: Mapping, samples: list[str], where: str) -> None:
    structure, methods = config["structure"], config["methods"]
    if COHORT in samples:
        raise InputError(config["samples"], "sample", repr(COHORT), "another id: it names models of all slides")
    for sample in structure.setdefault("slides", list(samples)):
        if sample not in samples:
            raise InputError(where, "structure.slides", repr(sample), one_of(samples, sample))
    embedding = [name for name, settings in methods.items() if REGISTRY[settings["model"]].kind in EMBEDDING]
    for space in structure["spaces"]:
        if space not in (known := [*embedding, *BASELINE_SPACES]):
            raise InputError(where, "structure.spaces", repr(space), one_of(known, space))
        if space in methods and methods[space]["harmony"]:
            expected = "false for a method whose embedding is a space: slides to embed are not corrected"
            raise InputError(where, f"methods.{space}.harmony", "true", expected)
        if space in methods and space in BASELINE_SPACES:
            raise InputError(where, f"methods.{space}", "a name that a space has", "another name for the method")
        if config["data"]["images"] == "none" and space not in EXPRESSION_SPACES:
            expected = f"{' or '.join(EXPRESSION_SPACES)}, as data.images is none"
            raise InputError(where, "structure.spaces", repr(space), expected)
    encoder = structure.get("encoder")
    if {"Image", "Concatenation"} & set(structure["spaces"]) and encoder not in config["encoders"]:
        raise InputError(
            where, "structure.encoder", repr(encoder), f"a key of encoders: {one_of(config['encoders'], encoder)}"
        )
    if structure["domains"] is None and "labels" not in structure:
        raise InputError(where, "structure.domains", "null without labels", "a number of domains, or structure.labels")


def require_labels(config: Mapping, where: str) -> None:
    """Check that the CSVs with the known domains of the slides are there.

    Raises
    ------
    InputError
        Naming the first one that is missing.
    """
    for sample in config["structure"]["slides"] if "structure" in config else ():
        path = label_file(config, sample)
        if path and not path.is_file():
            raise InputError(where, "structure.labels.file", f"no file {path}", "a CSV with the labels of each slide")


def label_file(config: Mapping, sample: str) -> Path | None:
    """The CSV with the known domains of a slide; ``None`` where they are in its ``.h5ad``, or not known."""
    pattern = config["structure"].get("labels", {}).get("file")
    return Path(config["data"]["root"]) / pattern.replace("{sample}", sample) if pattern else None


def _check_file(path: str | None, where: str, field: str) -> None:
    if path and not Path(path).is_file():
        raise InputError(where, field, f"no file {path}", "a file with an encoder's weights")


def predicts(config: Mapping) -> bool:
    """Whether any method of the run predicts expression; without one there are no folds, controls and scores."""
    return any(REGISTRY[settings["model"]].predicts for settings in config["methods"].values())


def predictors(config: Mapping) -> list[Predictor]:
    """Every predictor of the run, methods first, in the order of the configuration."""
    if not predicts(config):
        return []
    found = []
    for name, settings in config["methods"].items():
        registered = REGISTRY[settings["model"]]
        kind = registered.kind
        if not registered.predicts:
            continue
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
    if not predicts(config):
        return {}
    members = by_cohort(samples)
    return {
        (cohort, protocol, plan.fold): plan
        for cohort, settings in config["cohorts"].items()
        for protocol in settings["protocols"]
        for plan in plan_folds(members[cohort], protocol)
    }


def plans_by_protocol(folds: Mapping[tuple[str, str, int], FoldPlan]) -> dict[tuple[str, str], list[FoldPlan]]:
    """The folds of each (cohort, protocol), in the order of :func:`fold_plans`."""
    found: dict[tuple[str, str], list[FoldPlan]] = {}
    for (cohort, protocol, _), plan in folds.items():
        found.setdefault((cohort, protocol), []).append(plan)
    return found


def folds_that_test(folds: Mapping[tuple[str, str, int], FoldPlan]) -> dict[tuple[str, str, str], int]:
    """The fold that tests a slide, by (cohort, protocol, sample)."""
    return {(*key[:2], sample): plan.fold for key, plan in folds.items() for sample in plan.test}
