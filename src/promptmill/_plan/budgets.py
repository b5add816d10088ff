"""Whether a budget is enough, and whether the run would begin at all: it needs the worst case of every request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from promptmill._budget import worst_input_tokens, worst_output_tokens
from promptmill._plan.records import BudgetPlan, Range
from promptmill._pricing import Tariff
from promptmill._routing import Route
from promptmill.interfaces import Provider
from promptmill.models import Request, Tier, TokenEstimate, Usage

_ONE_TOKEN = Usage(input_tokens=1, output_tokens=0)


class Worst:
    """The worst cases of the rows of a route, and why there is none for some. ``excess`` is the most USD by which one
    is above what the plan takes for high."""

    def __init__(self, tier: Tier, tariff: Tariff) -> None:
        self.excess = 0.0
        self._tier = tier
        self._tariff = tariff
        self._unpriced: Counter[str] = Counter()
        self._unbounded = 0
        self._uncounted = 0

    def add(self, request: Request, estimate: TokenEstimate, model: str | None, high: float | None) -> None:
        input_tokens = worst_input_tokens(request)
        output_tokens = worst_output_tokens(request, estimate.output_tokens)
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        usd = self._tariff.cost(usage, model, self._tier)
        if usd is not None:
            self.excess = max(self.excess, usd - (high or 0.0))
        elif self._tariff.cost(_ONE_TOKEN, model, self._tier) is None:
            self._unpriced[model or ""] += 1
        elif output_tokens is None:
            self._unbounded += 1
        elif input_tokens is None:
            self._uncounted += 1
        else:
            self._unpriced[model or ""] += 1

    def refusal(self) -> str | None:
        """Why a run with a budget would not begin."""
        if self._unpriced:
            ((model, _),) = self._unpriced.most_common(1)
            return f"no price for model {model!r} in tier {self._tier}: give the provider a `price`"
        if self._unbounded:
            return f"set max_tokens: {self._unbounded:,} rows have no bound on their answer"
        if self._uncounted:
            return f"{self._uncounted:,} rows have images or other input whose tokens cannot be counted beforehand"
        return None


def refusal_of_fallback(route: Route, providers: Mapping[str, Provider], tariffs: Mapping[str, Tariff]) -> str | None:
    """Why what goes another way could not be paid from a budget."""
    for name in route.fallback:
        model, tier = providers[name].model, providers[name].tier
        if tariffs[name].cost(_ONE_TOKEN, model, tier) is None:
            return f"no price for model {model!r} of the fallback {name!r} in tier {tier}: give it a `price`"
    return None


def budget_plan(usd: float | None, cost: Range, excess: float, refusals: Sequence[str | None]) -> BudgetPlan | None:
    """The verdict on a budget; None without one.

    Args:
        usd: the budget.
        cost: what the rows under it cost.
        excess: how much more than the high cost of one row is set aside for it before it is sent.
        refusals: why the run would not begin, from each part of it.
    """
    if usd is None:
        return None
    reason = next((one for one in refusals if one is not None), None)
    if reason is not None:
        return BudgetPlan(usd=usd, verdict="would be refused", reason=reason)
    # With a price and a bound for every row, no level is unknown.
    expected, high = cost.expected or 0.0, cost.high or 0.0
    if expected > usd:
        return BudgetPlan(usd=usd, verdict="will be reached")
    return BudgetPlan(usd=usd, verdict="fits" if round(high + excess, 9) <= usd else "may be reached")
