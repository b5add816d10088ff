"""Money for calls: set aside before each, for the worst it can cost, and settled when it is known what it came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from promptmill._batching import NOT_DONE
from promptmill._budget import Budget, Reservation, worst_input_tokens, worst_output_tokens
from promptmill._routing import Router
from promptmill._work import Pricer
from promptmill.errors import BadOutput, Permanent, ProviderError, Transient
from promptmill.interfaces import Provider
from promptmill.models import Request, Tier, Usage

RUN: Final = "run"
"""The scope of the budget of the whole run."""


class Priced(Protocol):
    """A provider with its prices, as a lane is."""

    @property
    def provider(self) -> Provider: ...

    def cost(self, usage: Usage, model: str | None, tier: Tier) -> float | None: ...


class Purse:
    """The budgets of a run, and what is set aside for each request that is on its way."""

    def __init__(self, budget: Budget, router: Router) -> None:
        self._budget = budget
        self._router = router
        self._reserved: dict[int, Reservation] = {}
        self._second: dict[int, Reservation] = {}
        """What is set aside for second calls, of which nobody will know what they came to."""

    def on_freed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever money has come back."""
        self._budget.on_freed.append(callback)

    def afford(self, lane: Priced, request: Request) -> bool | ProviderError:
        """Set aside what ``request`` may cost at a lane's provider. False: there is not enough now. A failure: nobody
        knows what it may cost."""
        worst = worst_cost(lane.provider, lane.cost, request)
        if isinstance(worst, ProviderError):
            return worst
        self.release(request)
        reservation = self._budget.reserve(self._scopes(request), worst)
        if reservation is None:
            return False
        self._reserved[request.index] = reservation
        return True

    def hold(self, lane: Priced, request: Request) -> None:
        """Set money aside for a request that an earlier process sent, whether there is enough or not."""
        worst = worst_cost(lane.provider, lane.cost, request)
        usd = 0.0 if isinstance(worst, ProviderError) else worst
        self._reserved[request.index] = self._budget.hold(self._scopes(request), usd)

    def used_up(self, lane: Priced, request: Request) -> str | None:
        """The scope that will never have enough for ``request``; None while it may."""
        worst = worst_cost(lane.provider, lane.cost, request)
        usd = math.inf if isinstance(worst, ProviderError) else worst
        return self._budget.never_fits(self._scopes(request), usd)

    def reserved(self, request: Request) -> tuple[float, tuple[str, ...]]:
        """What is set aside for ``request``, and in which scopes."""
        found = self._reserved.get(request.index)
        second = self._second.get(request.index)
        more = 0.0 if second is None else second.usd
        return (0.0, ()) if found is None else (found.usd + more, self._scopes(request))

    def afford_second(self, lane: Priced, request: Request) -> bool:
        """Set aside what a second call for ``request`` may cost besides the first. It counts as spent in the end."""
        worst = worst_cost(lane.provider, lane.cost, request)
        if isinstance(worst, ProviderError) or request.index in self._second:
            return False
        reservation = self._budget.reserve(self._scopes(request), worst)
        if reservation is not None:
            self._second[request.index] = reservation
        return reservation is not None

    def settle(self, request: Request, usd: float | None) -> None:
        """``request`` has come to its end and cost ``usd``; None: nobody knows, so it is taken for all set aside."""
        self._settle_second(request)
        reservation = self._reserved.pop(request.index, None)
        if reservation is not None:
            self._budget.settle(reservation, math.nan if usd is None else usd)

    def release(self, request: Request) -> None:
        """Nothing was spent for ``request``, but for a second call."""
        self._settle_second(request)
        reservation = self._reserved.pop(request.index, None)
        if reservation is not None:
            self._budget.release(reservation)

    def failed(self, request: Request, failure: ProviderError) -> bool:
        """An attempt for ``request`` failed. Returns whether it may have been billed, and is counted as spent."""
        if may_be_billed(failure):
            self.settle(request, None)
            return True
        self.release(request)
        return False

    def _settle_second(self, request: Request) -> None:
        reservation = self._second.pop(request.index, None)
        if reservation is not None:
            self._budget.settle(reservation, math.nan)

    def spent(self) -> Mapping[str, float]:
        """USD spent by scope."""
        return self._budget.spent()

    def _scopes(self, request: Request) -> tuple[str, str]:
        return RUN, route_scope(self._router.number(request))


def route_scope(number: int) -> str:
    """The scope of the budget of a route, by its 0-based number."""
    return f"route {number + 1}"


def may_be_billed(failure: ProviderError) -> bool:
    """Whether a call that failed in this way may cost something: it was answered, or nobody knows what became of it."""
    if isinstance(failure, BadOutput):
        return True
    return isinstance(failure, Transient) and failure.http_status is None and failure.code not in NOT_DONE


def worst_cost(provider: Provider, price: Pricer, request: Request) -> float | ProviderError:
    """The most that one call for ``request`` can cost in USD; a failure says why nobody knows."""
    model = request.model or provider.model
    taken, given = worst_input_tokens(request), worst_output_tokens(request, provider.estimate(request).output_tokens)
    # What is asked for in flex may be answered, and billed, in realtime.
    tier: Tier = "batch" if provider.tier == "batch" else "realtime"
    plain = price(Usage(input_tokens=taken or 0, output_tokens=given or 0), model, tier)
    if plain is None:
        return Permanent(f"there is no price for the model {model!r}, and there is a budget", code="no_price")
    thought = price(Usage(input_tokens=taken or 0, output_tokens=given or 0, reasoning_tokens=given or 0), model, tier)
    worst = max(plain, thought or 0.0)
    if worst == 0.0 and price(Usage(input_tokens=1_000_000, output_tokens=1_000_000), model, tier) == 0.0:
        return 0.0
    if taken is None:
        return Permanent("nobody knows how many tokens it takes, and there is a budget", code="unbounded_cost")
    if given is None:
        return Permanent("its answer has no bound, and there is a budget: set max_tokens", code="unbounded_cost")
    return worst
