"""What an engine is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from promptmill._batch_lane import BatchLaneSpec
from promptmill._lane import LaneSpec
from promptmill._purse import Purse
from promptmill._routing import Router
from promptmill.clock import Clock
from promptmill.interfaces import Observer, RetryPolicy, Sink
from promptmill.models import Request, Result

Entry: TypeAlias = Request | Result
"""What the engine is fed: a request, or the failed result of a row that could not become one."""


class StopWhen(msgspec.Struct, frozen=True):
    """Stop when more than ``failure_rate`` (0 to 1) of the finished requests failed, after at least ``after``."""

    failure_rate: float
    after: int = 50

    def is_passed(self, failed: int, finished: int) -> bool:
        return finished >= self.after and failed / finished > self.failure_rate


class Ledger(Protocol):
    """Keeps book of calls, so that a killed process leaves behind what it knew. Each call returns at once."""

    def sending(
        self, request: Request, attempt: int, provider: str, reserved: float = 0.0, scopes: Sequence[str] = ()
    ) -> None:
        """``request`` is about to be sent, and ``reserved`` USD are set aside for it in these scopes of the budget.
        Raises StorageError: then it must not be."""
        ...

    def refused(self, request: Request) -> None:
        """The last attempt for ``request`` failed, and that is not the end of it."""
        ...

    def received(self, request: Request, result: Result, body: bytes) -> None:
        """``request`` has come to its ``result``; ``body`` is the raw reply, if any."""
        ...

    def spent(self, totals: Mapping[str, float]) -> None:
        """USD spent so far, by scope of the budget. After a result it belongs to, before a failure it does."""
        ...


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of an engine. They are open already; the engine closes none of them.

    ``dues`` are the deadlines of the routes, by their number, and ``due`` that of the whole run, in seconds since the
    epoch. ``detach``: stop when all that is left is in batches, or waits for something that is; ``all_read`` tells
    whether the input is at its end.
    """

    lanes: Sequence[LaneSpec | BatchLaneSpec]
    router: Router
    policy: RetryPolicy
    clock: Clock
    ledger: Ledger | None = None
    sinks: Sequence[Sink] = ()
    observers: Sequence[Observer] = ()
    stop_when: StopWhen | None = None
    dues: Mapping[int, float] = {}
    due: float | None = None
    detach: bool = False
    all_read: Callable[[], bool] = lambda: False
    purse: Purse | None = None
