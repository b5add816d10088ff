"""The plain cap on calls a second."""

from __future__ import annotations

import itertools

import anyio
import pytest

from promptmill._ratecap import RateCap
from promptmill.clock import VirtualClock


@pytest.mark.parametrize("calls_per_second", [0.01, 0.5, 1, 3, 7.5, 10, 100])
def test_calls_are_evenly_spaced(calls_per_second: float) -> None:
    clock = VirtualClock()

    async def main() -> list[float]:
        cap = RateCap(calls_per_second)
        times = []
        for _ in range(200):
            await cap.acquire()
            times.append(clock.now())
        return times

    times = clock.run(main)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([1 / calls_per_second] * 199, rel=1e-3)


@pytest.mark.parametrize("calls_per_second", [250, 1_000, 5_000])
def test_timers_that_come_late_cost_no_calls(calls_per_second: float) -> None:
    """Each wait takes 2 ms longer than it should."""
    clock = VirtualClock()

    async def main() -> list[float]:
        cap = RateCap(calls_per_second)
        times = []
        while clock.now() < 3.0:
            before = clock.now()
            await cap.acquire()
            if clock.now() > before:
                await clock.sleep(0.002)
            times.append(clock.now())
        return times

    times = clock.run(main)
    assert len(times) >= 0.97 * 3 * calls_per_second
    for start in (0.0, 0.5, 1.0, 1.7):
        within = sum(start <= at < start + 1 for at in times)
        assert within <= 1.011 * calls_per_second + 1


def test_idle_time_saves_nothing_up() -> None:
    clock = VirtualClock()

    async def main() -> list[float]:
        cap = RateCap(2)
        await cap.acquire()
        await clock.sleep(100)
        times = []
        for _ in range(4):
            await cap.acquire()
            times.append(clock.now())
        return times

    assert clock.run(main) == pytest.approx([100, 100.5, 101, 101.5], abs=1e-3)


def test_a_cancelled_wait_takes_no_turn() -> None:
    clock = VirtualClock()

    async def main() -> float:
        cap = RateCap(1)
        await cap.acquire()
        with anyio.move_on_after(0.5):
            await cap.acquire()
        await cap.acquire()
        return clock.now()

    assert clock.run(main) == pytest.approx(1, abs=1e-3)
