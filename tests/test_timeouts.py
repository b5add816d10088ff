"""Calls that take too long: each ends at its own time, and none takes another one with it."""

from __future__ import annotations

import asyncio
import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill._timeouts import TimedScope, Timeouts
from promptmill.clock import VirtualClock


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=40))
def test_each_call_has_its_own_time(calls: list[tuple[int, int]]) -> None:
    """``calls``: when each begins, and how long it takes if nobody ends it; all may take 10 seconds."""
    clock = VirtualClock()
    ended: dict[int, tuple[bool, float]] = {}

    async def call(timeouts: Timeouts, number: int, begins: int, takes: int) -> None:
        await anyio.sleep(begins)
        timed = TimedScope()
        with timed.scope:
            timeouts.begin(timed)
            try:
                await anyio.sleep(takes - 0.5)
            finally:
                timeouts.end(timed)
        ended[number] = timed.is_late, clock.now() - begins

    async def main() -> None:
        timeouts = Timeouts(10.0)
        async with anyio.create_task_group() as group:
            for number, (begins, takes) in enumerate(calls):
                group.start_soon(call, timeouts, number, begins, takes)

    clock.run(main)
    for number, (_, takes) in enumerate(calls):
        late, took = ended[number]
        assert late is (takes - 0.5 > 10)
        assert took == pytest.approx(min(takes - 0.5, 10), abs=1e-3)


def test_one_scope_serves_many_calls_and_one_timer_all_of_them() -> None:
    clock = VirtualClock()
    timers: list[float] = []

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(when: float, callback, *args, context=None):  # type: ignore[no-untyped-def]
            if getattr(callback, "__self__", None) is timeouts:
                timers.append(when)
            return call_at(when, callback, *args, context=context)

        loop.call_at = counted  # type: ignore[method-assign]
        timeouts = Timeouts(60.0)
        timed = TimedScope()
        with timed.scope:
            for _ in range(500):
                timeouts.begin(timed)
                await anyio.sleep(1.0)
                timeouts.end(timed)
        return timed.is_late

    assert clock.run(main) is False
    assert len(timers) <= 500 / 60 + 2


def test_what_has_no_limit_is_never_late() -> None:
    async def main() -> bool:
        timeouts = Timeouts(math.inf)
        timed = TimedScope()
        with timed.scope:
            timeouts.begin(timed)
            await anyio.sleep(1e6)
            timeouts.end(timed)
        return timed.is_late

    assert VirtualClock().run(main) is False


def test_after_the_end_no_timer_is_left() -> None:
    clock = VirtualClock()

    async def main() -> int:
        timeouts = Timeouts(60.0)
        timed = TimedScope()
        with timed.scope:
            timeouts.begin(timed)
            timeouts.end(timed)
        timeouts.close()
        loop = asyncio.get_running_loop()
        return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]

    assert clock.run(main) == 0
