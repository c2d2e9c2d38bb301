# spotwise: spatially resolved gene expression predicted from H&E slides.
# `snakemake --cores 8 --resources gpu=1` redoes the paper; `--configfile configs/X.yaml` runs something else.

from snakemake.utils import min_version

min_version("9.20")


# --- Configuration ----------------------------------------------------------------------------------------------------


include: "rules/start.smk"


# A configuration given with --configfile replaces the paper's; it would otherwise be merged into it.
if not workflow.configfiles:
    with run.refusals(), configuration.explained("config.yaml"):

        configfile: "config.yaml"


include: "rules/common.smk"


pathvars:
    results=plan.results,
    data=plan.data,


wildcard_constraints:
    sample=one_of(plan.samples),
    cohort=one_of(config["cohorts"]),
    protocol=one_of([*PROTOCOLS, FINAL]),
    method=one_of([*config["methods"], *external.settings, CONTROLS]),
    encoder=one_of(config["encoders"]),
    fold=one_of(sorted({fold.fold for folds in plan.folds.values() for fold in folds})),
    seed=one_of(config["seeds"]),
    predictor=one_of(plan.predictors),
    slide=one_of(predict.slides),
    scope=one_of([*plan.samples, COHORT]),


resource_scopes:
    gpu="local",


report: "report/workflow.rst"


# --- Rules, in the order in which the data meets them -----------------------------------------------------------------


include: "rules/check.smk"
include: "rules/data.smk"
include: "rules/expression.smk"
include: "rules/patches.smk"
include: "rules/folds.smk"
include: "rules/training.smk"
include: "rules/prediction.smk"
include: "rules/evaluation.smk"
include: "rules/reporting.smk"


if structure.slides:

    include: "rules/structure.smk"


if predict.models:

    include: "rules/predict.smk"


if bench.tasks:

    include: "rules/hest_bench.smk"


# --- Targets ----------------------------------------------------------------------------------------------------------


# Every table and figure of the paper and beyond, for whatever the configuration runs.
rule paper:
    input:
        collect("<results>/tables/{name}", name=plan.tables),
        collect("<results>/{name}", name=[*plan.figures, *structure.outputs, *predict.outputs, *bench.outputs]),
        "<results>/provenance.json" if plan.has_images else [],
    localrule: True


# Domains, variable genes and organisation of the slides, for a configuration with a section `structure`.
rule structure:
    input:
        collect("<results>/{name}", name=structure.outputs),
    localrule: True


# The folds for other tools, whose predictions the section `external` names: they need not exist yet.
rule tasks:
    input:
        collect("<results>/tasks/{fold}.h5ad", fold=plan.fold_names),
    localrule: True


# Expression of slides without counts, and the models that predict it, for a configuration with a section `predict`.
rule predict:
    input:
        collect("<results>/{name}", name=predict.outputs),
    localrule: True


# The HEST benchmark's tasks under its own protocol, for a configuration with a section `hest_bench`.
rule hest_bench:
    input:
        collect("<results>/{name}", name=bench.outputs),
    localrule: True


rule all:
    default_target: True
    input:
        rules.paper.input,
    localrule: True


onstart:
    if not checks_only():
        with run.refusals():
            plan.require_downloads()
            bench.require_tasks()
            for folder in plan.locked_folders:
                run.lock(folder)
    run.remind_on_terminate()
    shell.prefix(run.JOB_PREFIX)


onsuccess:
    if not checks_only():
        for line in closing.results_of(plan, map(os.path.relpath, workflow.configfiles)):
            logger.info(line)
        said, doubts = closing.slides_of(predict)
        for line in said:
            logger.info(line)
        for doubt in doubts:
            logger.warning(doubt)
        if random := closing.random_weights(plan):
            logger.warning(random)
