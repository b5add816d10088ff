"""Ends what takes too long, with one timer for all that may take equally long.

What was begun first is due first, so the timer waits for the oldest only. A timer and a cancel scope for each call
would cost more than all else that is done around it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

import anyio

Next: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""What is to be called and awaited when a call is over."""


class Timed(Protocol):
    """Something that may take too long. ``is_late`` tells that it did."""

    def expire(self) -> None:
        """Its time is up. Called once, from the event loop."""
        ...


class Timeouts:
    """What is under way and may take ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[Timed, float] = {}
        """When each is due, by the clock of the event loop; in the order in which they are due."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, timed: Timed) -> None:
        """Its time begins."""
        loop = asyncio.get_running_loop()
        due = self._due[timed] = loop.time() + self.seconds
        if self._timer is None and due < math.inf:
            self._timer = loop.call_at(due, self._look)

    def end(self, timed: Timed) -> None:
        """It is over."""
        self._due.pop(timed, None)

    def close(self) -> None:
        """Nothing will begin any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due:
            timed = next(iter(self._due))
            due = self._due[timed]
            if due > now:
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[timed]
            timed.expire()
        self._timer = None


class TimedTask:
    """For one await of the current task, which is cancelled as by ``asyncio.timeout``. Ask :meth:`ended` exactly once,
    when the await is over, however it ended."""

    __slots__ = ("_cancelling", "_task", "is_late")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - there is always one in a coroutine
        self._task = task
        self._cancelling = task.cancelling()
        self.is_late = False

    def expire(self) -> None:
        self.is_late = True
        self._task.cancel()

    def ended(self) -> bool:
        """Whether a ``CancelledError`` is this one's alone: nobody else wants the task to end."""
        return self.is_late and self._task.uncancel() <= self._cancelling


class TimedScope:
    """For calls one after the other. When one ``is_late``, ``scope`` is cancelled and must be left before anything else
    is waited for; ``then`` is what comes next."""

    __slots__ = ("is_late", "scope", "then")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.is_late = False
        self.then: Next | None = None

    def expire(self) -> None:
        self.is_late = True
        self.scope.cancel()
