"""Ends calls that take too long, with one timer for all of a lane.

All calls of a lane may take equally long, so the one that was begun first is due first. A scope is used for one call
after the other until it is cancelled: making one for each call, with a timer, costs more than all else that is done
around a call.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import anyio

Next: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""What is to be called and awaited when a call is over."""


class Timeouts:
    """Calls under way that may take ``seconds`` each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[TimedScope, float] = {}
        """When each call under way is due, by the clock of the event loop; in the order in which they are due."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, scope: TimedScope) -> None:
        """A call begins in ``scope``."""
        loop = asyncio.get_running_loop()
        due = self._due[scope] = loop.time() + self.seconds
        if self._timer is None and due < math.inf:
            self._timer = loop.call_at(due, self._look)

    def end(self, scope: TimedScope) -> None:
        """It is over."""
        self._due.pop(scope, None)

    def close(self) -> None:
        """No call will begin any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due:
            scope = next(iter(self._due))
            due = self._due[scope]
            if due > now:
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[scope]
            scope.is_late = True
            scope.scope.cancel()
        self._timer = None


class TimedScope:
    """For calls one after the other. When one ``is_late``, ``scope`` is cancelled and must be left before anything else
    is waited for; ``then`` is what comes next."""

    __slots__ = ("is_late", "scope", "then")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.is_late = False
        self.then: Next | None = None
