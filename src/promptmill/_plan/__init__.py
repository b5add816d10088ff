"""What a job would come to: rows, tokens, money and time, worked out from every row, with nothing sent."""

from promptmill._plan.job import plan_job
from promptmill._plan.records import (
    BatchPlan,
    BudgetPlan,
    DeadlinePlan,
    JobPlan,
    ProviderPlan,
    Range,
    RoutePlan,
    TokenSpread,
)

__all__ = [
    "BatchPlan",
    "BudgetPlan",
    "DeadlinePlan",
    "JobPlan",
    "ProviderPlan",
    "Range",
    "RoutePlan",
    "TokenSpread",
    "plan_job",
]
