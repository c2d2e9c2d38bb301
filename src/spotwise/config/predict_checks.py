"""Checks of the section ``predict``: which models of which cohorts are applied to slides without counts."""

from __future__ import annotations

from collections.abc import Mapping

from spotwise.config.predictors import Predictor, predictors
from spotwise.errors import InputError, one_of
from spotwise.models.registry import REGISTRY

# The control whose scores tell which genes are predicted better than by chance
CHANCE = "ShuffledTraining"


def check_predict(config: dict, where: str) -> None:
    """Check cohorts and predictors of the section, name the predictors where it does not, and add the control.

    The control `CHANCE` joins ``controls``, as the verdict on each gene compares with it.

    Raises
    ------
    InputError
        For a cohort or predictor that the run does not have, or a predictor that has no model to apply.
    """
    if config["data"]["images"] == "none":
        raise InputError(where, "predict", "slides to predict", "none where data.images is none: nothing learns images")
    known = {one.name: one for one in predictors(config) if one.method in config["methods"]}
    if not known:
        raise InputError(where, "predict", "no method to apply", "one under methods that predicts expression")
    source = config["predict"].setdefault("from", {cohort: _default(config, known) for cohort in config["cohorts"]})
    for cohort, names in source.items():
        if cohort not in config["cohorts"]:
            raise InputError(where, "predict.from", repr(cohort), one_of(config["cohorts"], cohort))
        for name in names:
            if name not in known:
                raise InputError(where, f"predict.from.{cohort}", repr(name), one_of(known, name))
    if CHANCE not in config["controls"]:
        config["controls"] = [*config["controls"], CHANCE]


def _default(config: Mapping, known: Mapping[str, Predictor]) -> list[str]:
    with_context = [name for name, one in known.items() if REGISTRY[config["methods"][one.method]["model"]].has_context]
    reference = config["evaluation"]["reference"]
    return with_context or [reference if reference in known else next(iter(known))]
