"""The plan of a run, which the rules ask for everything that depends on the configuration."""

from spotwise.workflow.bench_plan import BenchPlan
from spotwise.workflow.context_plan import ContextPlan
from spotwise.workflow.external_plan import ExternalPlan
from spotwise.workflow.plan import Plan, one_of, times_attempt
from spotwise.workflow.predict_plan import PredictPlan
from spotwise.workflow.structure_plan import StructurePlan

__all__ = [
    "BenchPlan",
    "ContextPlan",
    "ExternalPlan",
    "Plan",
    "PredictPlan",
    "StructurePlan",
    "one_of",
    "times_attempt",
]
