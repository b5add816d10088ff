"""A second call for a request whose first one takes unusually long: the first answer counts, the other call ends."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

T = TypeVar("T")

_KEPT: Final = 500
"""Calls whose latencies are remembered."""

_LEAST: Final = 50
"""Calls that must have been answered before it is known what is unusual."""

_EVERY: Final = 20


class Hedge:
    """Knows how long ``share`` (0 to 1) of the last calls took at most."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._since = 0
        self.after: float | None = None
        """Seconds after which a call takes unusually long; None while that is not known."""

    def answered(self, seconds: float) -> None:
        self._latencies.append(seconds)
        self._since += 1
        if len(self._latencies) >= _LEAST and (self.after is None or self._since >= _EVERY):
            self._since = 0
            ordered = sorted(self._latencies)
            self.after = ordered[min(math.ceil(self._share * len(ordered)), len(ordered)) - 1]


async def raced(
    first: Callable[[], Awaitable[T]], second: Callable[[], Callable[[], Awaitable[T]] | None], after: float
) -> tuple[T, int]:
    """What ``first`` returns, or the call that ``second`` makes after so many seconds; and which it was, 0 or 1.

    ``second`` may decline. The slower one is cancelled. When both fail, the failure of the first is raised.
    """
    answers: list[tuple[T, int]] = []
    failures: dict[int, Exception] = {}
    running = 1

    async with anyio.create_task_group() as group:

        async def attempt(call: Callable[[], Awaitable[T]], number: int) -> None:
            nonlocal running
            try:
                answers.append((await call(), number))
            except Exception as failure:  # noqa: BLE001 - raised again below, when it is what counts
                failures[number] = failure
            finally:
                running -= 1
                if answers or not running:
                    group.cancel_scope.cancel()

        group.start_soon(attempt, first, 0)
        await anyio.sleep(after)
        call = second()
        if call is not None:
            running += 1
            group.start_soon(attempt, call, 1)
    if answers:
        return answers[0]
    if not failures:  # a call was cancelled by what it called, and nobody else wants that
        raise asyncio.CancelledError
    raise failures[min(failures)]
