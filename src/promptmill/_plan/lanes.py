"""The work of one provider that answers request by request, charged to its limits as a run would."""

from __future__ import annotations

from collections import Counter
from typing import Final

from promptmill._concurrency import FIRST
from promptmill._pacing import Pacer
from promptmill._plan.records import ProviderPlan
from promptmill._plan.routes import OUTPUT_SHARES
from promptmill.clock import VirtualClock
from promptmill.interfaces import Provider
from promptmill.models import Request, TokenEstimate
from promptmill.options import ProviderOptions

UNBOUNDED_TOKENS: Final = 250
"""Output tokens assumed for the time of a call whose answer has no bound."""

FIRST_TOKEN_SECONDS: Final = 1.0
TOKENS_PER_SECOND: Final = 50.0
"""How fast answers are assumed to come when nobody says how long a call takes."""


class LaneTally:
    """Adds up the work of one provider."""

    def __init__(self, options: ProviderOptions, provider: Provider, latency: float | None) -> None:
        limits = _limits_of_all(options)
        self.provider = provider
        self.rows = 0
        self._refused: Counter[str] = Counter()
        self._busy = 0.0
        self._latency = latency
        self._concurrency = len(options.members()) * (options.max_concurrency or provider.concurrency or FIRST)
        self._rps: float | None = limits.pop("rps", None)
        self._pacer = Pacer(limits, VirtualClock(), charging=provider.charging, admission=provider.admission)

    def admit(self, request: Request) -> TokenEstimate | None:
        """Count ``request``; None when it would not be sent."""
        if request.operation not in self.provider.operations:
            self._refused["unsupported_operation"] += 1
            return None
        estimate = self.provider.estimate(request)
        if self._pacer.oversized(estimate):
            self._refused["over_limit"] += 1
            return None
        self._pacer.charge(estimate)
        self.rows += 1
        self._busy += self._seconds(estimate) if self._latency is None else self._latency
        return estimate

    def plan(self) -> ProviderPlan:
        seconds = {"concurrency": self._busy / min(self._concurrency, max(self.rows, 1)), **self._pacer.owed()}
        if self._rps is not None:
            seconds["rps"] = self.rows / self._rps
        seconds = {name: round(value, 3) for name, value in seconds.items()}
        binding = max(seconds, key=lambda name: seconds[name])
        return ProviderPlan(
            rows=self.rows,
            refused=dict(self._refused),
            concurrency=self._concurrency,
            seconds=seconds,
            binding=binding if self.rows else None,
            eta_s=seconds[binding] if self.rows else 0.0,
        )

    def _seconds(self, estimate: TokenEstimate) -> float:
        bound = estimate.output_tokens
        tokens = UNBOUNDED_TOKENS if bound is None else bound * OUTPUT_SHARES[1]
        return FIRST_TOKEN_SECONDS + tokens / TOKENS_PER_SECOND


def _limits_of_all(options: ProviderOptions) -> dict[str, float]:
    """What all keys of a provider may do together; what one of them may without limit is not limited."""
    keys = [one.limits.model_dump(exclude_none=True) for one in options.members()]
    names = set(keys[0]).intersection(*keys)
    return {name: sum(one[name] for one in keys) if name != "rps" else keys[0][name] for name in names}
