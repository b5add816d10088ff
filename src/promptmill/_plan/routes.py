"""The rows of one route: their tokens and what they cost in each tier."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

from promptmill._plan.budgets import Worst
from promptmill._plan.records import BudgetPlan, DeadlinePlan, Range, RoutePlan, TokenSpread
from promptmill._pricing import Tariff
from promptmill._report import Money
from promptmill._routing import Route
from promptmill.models import Request, Tier, TokenEstimate, Usage

TIERS: Final[tuple[Tier, ...]] = ("realtime", "flex", "batch")

INPUT_SHARES: Final = (0.64, 0.83, 1.0)
"""Low, expected and high share of the estimated input tokens. The estimate counts 3.5 bytes a token, to be on the safe
side; measured with o200k were 4.2 for English and up to 5.5 for other text."""

OUTPUT_SHARES: Final = (0.15, 0.5, 1.0)
"""Low, expected and high share of ``max_tokens`` that answers take. An assumption: only a run can tell."""


class RouteTally:
    """Adds up the rows of one route. ``worst``: a budget holds for it, so that the worst case matters."""

    def __init__(self, tier: Tier, tariff: Tariff, worst: Worst | None) -> None:
        self.tier = tier
        self.models: Counter[str] = Counter()
        self.inputs = array("q")
        self.outputs = [0, 0, 0]
        self.unbounded = 0
        self.cost = {tier: (Money(), Money(), Money()) for tier in TIERS}
        self.worst = worst
        self._tariff = tariff

    def add(self, request: Request, estimate: TokenEstimate, model: str | None) -> None:
        self.models[model or ""] += 1
        self.inputs.append(estimate.input_tokens)
        bound = estimate.output_tokens
        self.unbounded += bound is None
        for level, (input_share, output_share) in enumerate(zip(INPUT_SHARES, OUTPUT_SHARES, strict=True)):
            output = round(bound * output_share) if bound is not None else None if level else 0
            self.outputs[level] += output or 0
            usage = Usage(input_tokens=round(estimate.input_tokens * input_share), output_tokens=output)
            for tier in TIERS:
                usd = self._tariff.cost(usage, model, tier)
                self.cost[tier][level].add(usd)
        if self.worst is not None:
            high = Usage(input_tokens=estimate.input_tokens, output_tokens=bound)
            self.worst.add(request, estimate, model, self._tariff.cost(high, model, self.tier))

    def plan(self, number: int, route: Route, budget: BudgetPlan | None, deadline: DeadlinePlan | None) -> RoutePlan:
        low, expected, high = self.outputs
        return RoutePlan(
            route=number,
            provider=route.to,
            fallback=route.fallback,
            rows=len(self.inputs),
            models=dict(self.models.most_common()),
            input_tokens=_spread(self.inputs),
            output_tokens=Range(low=low) if self.unbounded else Range(low=low, expected=expected, high=high),
            unbounded=self.unbounded,
            tier=self.tier,
            cost_usd={tier: range_of(self.cost[tier]) for tier in TIERS},
            budget=budget,
            deadline=deadline,
        )


def _spread(tokens: array[int]) -> TokenSpread | None:
    if not tokens:
        return None
    ordered = sorted(tokens)

    def percentile(share: float) -> int:
        return ordered[max(math.ceil(len(ordered) * share), 1) - 1]

    return TokenSpread(p50=percentile(0.50), p95=percentile(0.95), max=ordered[-1], total=sum(ordered))


def range_of(levels: Sequence[Money]) -> Range:
    """The three levels of a cost."""
    low, expected, high = (level.total for level in levels)
    return Range(low=low, expected=expected, high=high)


def summed(parts: Sequence[Sequence[Money]]) -> Range:
    """The sum of several routes; nothing to do costs nothing."""
    if not parts:
        return Range(low=0.0, expected=0.0, high=0.0)
    return range_of([Money(levels) for levels in zip(*parts, strict=True)])
