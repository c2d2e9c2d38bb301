# The checked configuration and the plan of the run, which all rules ask.

from snakemake.logging import logger
from snakemake.utils import update_config

from spotwise.constants import COHORT, CONTROLS, FINAL, PROTOCOLS, SHUFFLED
from spotwise.data import hest
from spotwise.runtime.software import SLIDE_READERS, versions
from spotwise.workflow import (
    BenchPlan,
    ContextPlan,
    ExternalPlan,
    Plan,
    PredictPlan,
    StructurePlan,
    closing,
    one_of,
    times_attempt,
)

CONFIGFILES = ", ".join(map(os.path.relpath, workflow.configfiles)) or "config"

# A sample sheet of the workflow's own is found beside it, wherever it runs
sheet = str(config.get("samples", ""))
if not Path(sheet).exists() and (BASE / sheet).is_file():
    config["samples"] = str(BASE / sheet)

with run.refusals():
    from_files = {}
    for path in workflow.configfiles:
        update_config(from_files, configuration.read_config(os.path.relpath(path)))
    configuration.type_overrides(config, from_files)
    plan = Plan(config, configuration.prepare(config, CONFIGFILES))
    structure = StructurePlan(plan)
    context = ContextPlan(plan)
    context.require_slides(CONFIGFILES)
    external = ExternalPlan(plan)
    predict = PredictPlan(plan, CONFIGFILES)
    predict.require_slides()
    bench = BenchPlan(plan)
    if not bench.downloads:
        bench.require_tasks()
    if config["data"]["source"] == "local":
        hest.require_local(plan.data, plan.samples, config["data"]["images"])
    configuration.require_labels(config, CONFIGFILES)

# A training goes ahead of all that is ready, as no GPU may wait; then comes what trainings wait for
TRAINING, BEFORE_TRAINING = 2, 1


def checks_only():
    """Tell whether this run is `snakemake check`, which needs no data and must not write results."""
    return {job.rule.name for job in workflow.dag.jobs} == {"check"}


def external_files(wildcards):
    """The files of another tool, which must exist unless another workflow, which uses this one, makes them."""
    if Path(workflow.main_snakefile).resolve().parent == BASE.resolve():
        with run.refusals():
            external.require(wildcards)
    return external.files(wildcards)


def figure(name, path, caption, category, **labels):
    """The PDF and the PNG of a figure, as outputs `{name}_pdf` and `{name}_png`; the report shows the PNG."""
    shown = report(f"{path}.png", caption=f"../report/{caption}.rst", category=category, labels=labels)
    return {f"{name}_pdf": f"{path}.pdf", f"{name}_png": shown}


def table(name, label, *formats):
    """A table as CSV, which the report shows, and in further formats, as outputs `{name}` and `{name}_{format}`."""
    labels = {"table": label, "format": "CSV"}
    path = f"<results>/tables/{name}"
    shown = report(f"{path}.csv", caption=f"../report/{name}.rst", category="Tables", labels=labels)
    return {name: shown, **{f"{name}_{suffix}": f"{path}.{suffix}" for suffix in formats}}
