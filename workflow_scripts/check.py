"""Check access, GPU, disk, memory and hours before a long run."""

from spotwise import config
from spotwise.errors import SetupError
from spotwise.runtime.job import job
from spotwise.workflow import Plan, StructurePlan, preflight

with job(snakemake.log[0]):
    plan = Plan(snakemake.config, config.run_samples(snakemake.config))
    findings = preflight.check(plan, StructurePlan(plan))
    print(preflight.report(findings), flush=True)
    problems = [finding.name for finding in findings if finding.status == preflight.PROBLEM]
    if problems:
        raise SetupError(f"the run would stop: {', '.join(problems)}")
