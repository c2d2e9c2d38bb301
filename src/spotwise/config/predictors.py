"""Predictors, seeds and folds of a checked configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from spotwise.constants import CONTROL, EXTERNAL, SHUFFLED
from spotwise.data.sample_sheet import FoldPlan, Sample, by_cohort, plan_folds
from spotwise.errors import InputError, one_of
from spotwise.models.registry import REGISTRY

CONTROL_NAMES = sorted([*SHUFFLED, *(name for name, entry in REGISTRY.items() if entry.kind == "control")])


@dataclass(frozen=True)
class Predictor:
    """A method with its inference settings, which is a row of every table.

    Attributes
    ----------
    name
        The method's name, with K and the matching for a retrieval method: ``CMRCNet-50``, ``BLEEP-50-weighted``.
    method
        Its entry under ``methods`` (or ``external`` or ``controls``) in the configuration.
    kind
        Kind of its class in the registry: ``retrieval``, ``regression``, ``frozen`` or ``control``; ``external`` for
        predictions of another tool. A control that trains the reference method is a ``control``, too.
    k
        Number of retrieved spots, 0 for other methods.
    matching
        How they are averaged: ``average`` or ``weighted``.
    """

    name: str
    method: str
    kind: str
    k: int = 0
    matching: str = "average"


def predicts(config: Mapping) -> bool:
    """Tell whether the run has predictions of expression. Otherwise there are no folds, controls and scores."""
    return bool(config.get("external")) or any(
        REGISTRY[settings["model"]].predicts for settings in config["methods"].values()
    )


def predictors(config: Mapping) -> list[Predictor]:
    """Return every predictor of the run: methods, other tools, controls, each in the order of the configuration."""
    if not predicts(config):
        return []
    found = []
    for name, settings in config["methods"].items():
        registered = REGISTRY[settings["model"]]
        kind = registered.kind
        if not registered.predicts or "shuffled" in settings:
            continue
        if kind == "retrieval":
            for matching, suffix in (("average", ""), ("weighted", "-weighted")):
                if matching in settings["matching"]:
                    # the weight of a single match is 1 either way
                    several = [k for k in settings["neighbours"] if k > 1 or matching == settings["matching"][0]]
                    found += [Predictor(f"{name}-{k}{suffix}", name, kind, k, matching) for k in several]
        else:
            found.append(Predictor(name, name, kind))
    found += [Predictor(name, name, EXTERNAL) for name in config["external"]]
    return found + [_control(name, config["methods"].get(name, {})) for name in config["controls"]]


def stands(config: Mapping, method: str, cohort: str, protocol: str) -> bool:
    """Tell whether a method has predictions of a cohort under a protocol; those of another tool may be of some only."""
    limits = config["external"].get(method)
    return limits is None or (cohort in limits["cohorts"] and protocol in limits["protocols"])


def _control(name: str, entry: Mapping) -> Predictor:
    """Return the predictor of a control, which is the only one of its entry under ``methods`` if it is trained."""
    if entry.get("neighbours"):
        return Predictor(name, name, CONTROL, entry["neighbours"][0], entry["matching"][0])
    return Predictor(name, name, CONTROL)


def add_shuffled(config: dict, where: str) -> None:
    """Add an entry under ``methods`` for each control that trains the reference method on shuffled expression.

    It is that of the reference, with its K and matching alone and the key ``shuffled``: ``slide`` or ``cohort``.

    Raises
    ------
    InputError
        The reference is not a method of the run, so that nothing can be trained.
    """
    wanted = [name for name in config["controls"] if name in SHUFFLED]
    if not wanted:
        return
    known = {one.name: one for one in predictors(config) if one.method in config["methods"]}
    if not known:
        raise InputError(where, "controls", repr(wanted[0]), "no control to train, as no method of the run predicts")
    if (name := config["evaluation"]["reference"]) not in known:
        expected = f"a method for the control {wanted[0]} to train: {one_of(known, name)}"
        raise InputError(where, "evaluation.reference", repr(name), expected)
    reference = known[name]
    entry = copy.deepcopy(config["methods"][reference.method])
    if reference.kind == "retrieval":
        entry |= {"neighbours": [reference.k], "matching": [reference.matching]}
    config["methods"] = {**config["methods"], **{name: {**entry, "shuffled": SHUFFLED[name]} for name in wanted}}


def seeds(config: Mapping, method: str) -> list[int]:
    """Return the seeds of a method: all of them, or the first if it needs no more.

    Those are methods with nothing random, predictions of another tool, and controls that are trained.
    """
    entry = config["methods"].get(method, {"model": method})
    once = method in config["external"] or "shuffled" in entry or not REGISTRY[entry["model"]].seeded
    return list(config["seeds"][:1] if once else config["seeds"])


def fold_plans(config: Mapping, samples: list[Sample]) -> dict[tuple[str, str, int], FoldPlan]:
    """Return every fold of the run by (cohort, protocol, fold)."""
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
    """Return the folds of each (cohort, protocol), in the order of :func:`fold_plans`."""
    found: dict[tuple[str, str], list[FoldPlan]] = {}
    for (cohort, protocol, _), plan in folds.items():
        found.setdefault((cohort, protocol), []).append(plan)
    return found


def folds_that_test(folds: Mapping[tuple[str, str, int], FoldPlan]) -> dict[tuple[str, str, str], int]:
    """Return the fold that tests each slide, by (cohort, protocol, sample)."""
    return {(*key[:2], sample): plan.fold for key, plan in folds.items() for sample in plan.test}
