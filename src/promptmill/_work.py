"""A request on its way, and what lanes and the engine are to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec
from anyio.abc import TaskGroup

from promptmill._binding import Binding
from promptmill._channel import Traffic
from promptmill._queue import Queued
from promptmill.errors import ProviderError, QuotaExhausted, RunStopped, StorageError
from promptmill.interfaces import Provider
from promptmill.models import Request, Response, Tier, TokenEstimate, Usage

Pricer: TypeAlias = Callable[[Usage, str | None, Tier], float | None]
"""USD for the tokens of one call, by model and tier; None when that is not known."""


class Work(msgspec.Struct, kw_only=True):
    """A request on its way: what has been tried so far."""

    request: Request
    chain: tuple[str, ...]
    attempts: int = 0
    """Calls made for this request in all."""
    lane_attempts: int = 0
    """Calls made for it on the present provider that may have reached it."""
    unsent: int = 0
    """Calls on the present provider that cannot have reached it."""
    free: bool = False
    """Whether its last attempt says nothing against trying again: it was throttled, or never sent."""
    estimate: TokenEstimate = TokenEstimate(0)
    started: float | None = None
    """When its first attempt on the present provider began (monotonic seconds)."""
    due: float | None = None
    """Its deadline, in seconds since the epoch."""


class AnyLane(Protocol):
    """What all lanes are to the engine."""

    name: str
    reached: bool
    unreached_since: float | None

    @property
    def provider(self) -> Provider: ...

    @property
    def exhausted(self) -> QuotaExhausted | None:
        """Why there is no quota left; None while there is."""
        ...

    def use_up(self, failure: QuotaExhausted) -> None:
        """A call said that there is none left."""
        ...

    @property
    def in_flight(self) -> int: ...

    @property
    def retrying(self) -> int: ...

    @property
    def queued(self) -> int: ...

    @property
    def hungry(self) -> bool: ...

    @property
    def busy(self) -> int:
        """Calls and batches under way."""
        ...

    @property
    def held(self) -> int:
        """Requests it has from earlier processes."""
        ...

    @property
    def away(self) -> int:
        """Requests that go on without this process."""
        ...

    @property
    def batches(self) -> int:
        """Batches these are in."""
        ...

    async def recall(self) -> None:
        """Before anything starts: tell the engine of the requests that earlier processes sent from here."""
        ...

    def start(self, group: TaskGroup) -> None: ...

    def put(self, queued: Queued) -> None: ...

    def resume(self, work: Work) -> None: ...

    def retry(self, work: Work, after: float) -> None: ...

    def all_fed(self) -> None: ...

    def too_late(self, work: Work) -> bool: ...

    @property
    def traffic(self) -> Traffic:
        """How it was used so far."""
        ...

    @property
    def binding(self) -> Binding | None:
        """Why no call is made just now; None while calls are."""
        ...

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now; 0 where no call waits for an answer."""
        ...

    @property
    def rests_for(self) -> float:
        """Seconds until its provider may be asked again."""
        ...

    def silent_for(self) -> float:
        """Seconds since its provider answered anything, but for rests it asked for."""
        ...

    def seconds_for(self, requests: int, tokens: int) -> float: ...

    def cost(self, usage: Usage, model: str | None, tier: Tier) -> float | None: ...

    def money_came_back(self) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


class Outcome(Protocol):
    """What the engine makes of an attempt."""

    def sending(self, lane: AnyLane, work: Work) -> bool: ...

    async def succeeded(self, lane: AnyLane, work: Work, response: Response, latency: float) -> None: ...

    async def failed(self, lane: AnyLane, work: Work, failure: ProviderError, latency: float | None) -> None: ...

    async def broke(self, lane: AnyLane, work: Work, error: BaseException, latency: float | None) -> None: ...

    def storage_failed(self, error: StorageError) -> None: ...

    def warn(self, message: str) -> None: ...

    def sending_second(self, lane: AnyLane, work: Work) -> bool: ...

    def outrun(self, lane: AnyLane, work: Work, latency: float) -> None: ...

    def afford(self, lane: AnyLane, request: Request) -> bool | ProviderError:
        """Set aside what ``request`` may cost. False: not now, try again when told of a change, if there is one. A
        failure: it cannot be sent."""
        ...


class BatchOutcome(Outcome, Protocol):
    """What the engine does besides for lanes whose requests go on without this process."""

    def stop(self, reason: RunStopped) -> None: ...

    def hold(self, lane: AnyLane, request: Request) -> None:
        """Count the cost of a request that an earlier process sent as set aside."""
        ...

    def moved(self) -> None:
        """More requests, or fewer, are away now."""
        ...

    def lane_ended(self, lane: AnyLane) -> None:
        """A lane that only collects has nothing left to collect."""
        ...

    def seconds_for(self, chain: tuple[str, ...], requests: int, tokens: int) -> float:
        """How long so many requests with so many tokens would take on a chain of providers."""
        ...

    async def flushed(self) -> None:
        """Return when every result so far is stored. Raises StorageError when one cannot be."""
        ...
