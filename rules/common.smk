# What all files here need: the checked configuration, the plan of folds, and what a job is about by its wildcards.

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

SOURCE = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SOURCE))
# Jobs find the package here, so that no environment has to install it
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])))

from spotwise import config as configuration
from spotwise.data import hest, manifest
from spotwise.constants import BASELINE_SPACES, BOUNDS, COHORT, EXPRESSION_SPACES, PROTOCOLS
from spotwise.errors import InputError, SetupError
from spotwise.models.registry import REGISTRY
from spotwise.runtime.code_version import code_version
from spotwise.runtime.software import versions
from spotwise.data.sample_sheet import by_cohort

try:
    for path in workflow.configfiles:
        configuration.read_config(os.path.relpath(path))
    update_config(config, configuration.typed(workflow.config_settings.config))
    SHEET = configuration.prepare(config, ", ".join(map(os.path.relpath, workflow.configfiles)))
    SAMPLES = [sample.sample for sample in SHEET]
    PATIENT_OF = {sample.sample: sample.patient for sample in SHEET}
    COHORT_OF = {sample.sample: sample.cohort for sample in SHEET}
    SAMPLES_OF = {name: [sample.sample for sample in members] for name, members in by_cohort(SHEET).items()}
    FOLDS = configuration.fold_plans(config, SHEET)
    FOLDS_OF = configuration.plans_by_protocol(FOLDS)
    TESTED_IN = configuration.folds_that_test(FOLDS)
    PREDICTORS = {predictor.name: predictor for predictor in configuration.predictors(config)}
    if config["data"]["source"] == "local":
        hest.require_local(config["data"]["root"], SAMPLES, config["data"]["images"])
    configuration.require_labels(config, ", ".join(map(os.path.relpath, workflow.configfiles)))
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{config['run']}"
DATA_SOURCE = config["data"]["source"]
HAS_IMAGES = config["data"]["images"] != "none"
STRUCTURE_SETTINGS = config.get("structure", {})
MODEL = "<results>/models/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}"
STRUCTURE = "<results>/structure/{cohort}"


def one_of(names):
    """A wildcard constraint: exactly one of these names, or nothing at all where there are none."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def of_kind(kind):
    """Predictors of one kind, as a wildcard constraint."""
    return one_of([name for name, predictor in PREDICTORS.items() if predictor.kind == kind])


def methods_of_kind(*kinds):
    """Configured methods whose class is of one of some kinds, as a wildcard constraint."""
    return one_of([name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].kind in kinds])


def plan_of(wildcards):
    return FOLDS[wildcards.cohort, wildcards.protocol, int(wildcards.fold)]


def test_samples(wildcards):
    return list(plan_of(wildcards).test)


def training_samples(wildcards):
    return list(plan_of(wildcards).train)


def fold_samples(wildcards):
    return training_samples(wildcards) + test_samples(wildcards)


def method_of(wildcards):
    return PREDICTORS[wildcards.predictor].method


def entry(wildcards):
    """The configuration entry of the method of a rule, with its class and options."""
    return config["methods"][wildcards.get("method") or wildcards.get("space") or method_of(wildcards)]


def model_name(wildcards):
    return entry(wildcards)["model"]


def model_options(wildcards):
    return entry(wildcards)["options"]


def method_code(script):
    """Parameter that changes with the code of a script and of the wildcards' method."""

    def version(wildcards):
        return code_version(script, f"spotwise.models.{REGISTRY[model_name(wildcards)].module}")

    return version


def predictions(cohort, protocol, predictor):
    """Every prediction file of one predictor: its folds, seeds and test slides."""
    seeds = configuration.seeds(config, PREDICTORS[predictor].method)
    return [
        f"<results>/predictions/{cohort}/{protocol}/{predictor}/fold{plan.fold}/seed{seed}/{sample}.h5ad"
        for plan in FOLDS_OF.get((cohort, protocol), [])
        for seed in seeds
        for sample in plan.test
    ]


# GPUs a computing job asks for; a run configured for the CPU must not queue for any
GPU = 0 if config["training"]["device"] == "cpu" else 1
# Priorities: a training goes ahead of all that is ready, as no GPU may wait, and the longest jobs end a run late if they
# begin late; then comes what trainings wait for
TRAINING, BEFORE_TRAINING = 2, 1
