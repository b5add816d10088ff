"""The one source of time.

Everything that waits, times out or stamps asks a :class:`Clock`. The event loop's own clock is the monotonic one, so
:class:`VirtualClock` moves the engine, its timeouts and its back-off together: a day passes in a moment.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.lowlevel
from anyio import to_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LEAST_WAIT: Final = 1e-6
"""Seconds of virtual time every timer takes; more than the resolution that event loops round timers to."""


class Clock(Protocol):
    """Monotonic and wall time, in seconds."""

    def now(self) -> float:
        """Monotonic seconds: for durations, deadlines and pacing. The zero point means nothing."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch: for stamps people read."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def blocking(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """Run what blocks, such as reading files, without holding up the event loop."""
        ...


class SystemClock:
    """Real time."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def blocking(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        return await to_thread.run_sync(function, *args)


class VirtualClock:
    """Time that jumps to the next timer as soon as nothing else can run.

    Run the whole program under :meth:`run`: its event loop tells virtual time, so ``anyio.sleep``, timeouts and
    limiters follow it. Work in threads or on sockets is not waited for by the clock: keep both out.
    """

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._start = wall
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._start + self._now

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def blocking(self, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        """It takes no time: no thread does it, since the clock would not wait for that."""
        await anyio.lowlevel.checkpoint()
        return function(*args)

    def run(self, main: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run ``main(*args)`` to its end on an event loop of this clock."""

        async def body() -> T:
            return await main(*args)

        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(body())

    def _advance(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for ready sockets without waiting and moves the clock by the time it should have waited."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # No timer is pending: only another thread or a signal can wake the loop, so really wait.
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self._clock._advance(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self._virtual.now()

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As it is, but never for this very moment: whoever sets a timer again and again until the rounding of a
        float is overcome (aiolimiter does) would otherwise stop the time."""
        return super().call_at(max(when, self.time() + _LEAST_WAIT), callback, *args, context=context)
