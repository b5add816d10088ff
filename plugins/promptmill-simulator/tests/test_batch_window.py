"""The end of a batch's window, whatever timers do."""

from __future__ import annotations

import math

import anyio

from promptmill.clock import SystemClock
from promptmill_simulator.batch_run import BatchRun


class Behind(SystemClock):
    """As when a timer fires a moment early: the time it was set for has not come."""

    def now(self) -> float:
        return 0.0


async def test_a_window_is_over_when_it_was_waited_for() -> None:
    run = object.__new__(BatchRun)
    run.stop, run._clock, run._deadline = anyio.Event(), Behind(), 0.01
    assert await run._pause_until(math.inf) == "expired"
    assert await run._pause_until(0.005) is None
