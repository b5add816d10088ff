"""The virtual clock: timers, timeouts, task groups and limiters follow it, and a day passes in a moment."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from promptmill.clock import Clock, SystemClock, VirtualClock

DAY = 86_400.0


def test_a_day_passes_in_a_moment() -> None:
    clock = VirtualClock()

    async def main() -> str:
        for _ in range(24):
            await clock.sleep(3600)
        return "done"

    assert clock.run(main) == "done"
    assert clock.now() == pytest.approx(DAY)
    assert clock.wall() == pytest.approx(1_700_000_000 + DAY)


def test_time_stands_still_while_something_can_run() -> None:
    clock = VirtualClock()

    async def main() -> float:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        time.sleep(0.01)
        return clock.now()

    assert clock.run(main) == 0.0


def test_arguments_are_handed_on_and_errors_come_out() -> None:
    clock = VirtualClock()

    async def fail(message: str) -> None:
        await clock.sleep(1)
        raise ValueError(message)

    with pytest.raises(ValueError, match="out of here"):
        clock.run(fail, "out of here")
    assert clock.now() == pytest.approx(1)


def test_two_runs_go_on_from_one_another() -> None:
    clock = VirtualClock(wall=100.0)
    clock.run(clock.sleep, 5)
    clock.run(clock.sleep, 7)
    assert clock.now() == pytest.approx(12)
    assert clock.wall() == pytest.approx(112)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_sleepers_wake_in_order_and_on_time(delays: list[float]) -> None:
    clock = VirtualClock()
    woken: list[tuple[float, float]] = []

    async def sleeper(delay: float) -> None:
        await clock.sleep(delay)
        woken.append((delay, clock.now()))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for delay in delays:
                group.start_soon(sleeper, delay)

    clock.run(main)
    assert [delay for delay, _ in woken] == pytest.approx(sorted(delays), abs=1e-5)
    for delay, at in woken:
        assert at == pytest.approx(delay, abs=1e-5)


def test_timeouts_of_anyio_and_asyncio_follow_it() -> None:
    clock = VirtualClock()

    async def main() -> None:
        with anyio.move_on_after(30) as scope:
            await clock.sleep(3600)
        assert scope.cancelled_caught
        assert clock.now() == pytest.approx(30)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(60):
                await anyio.Event().wait()
        assert clock.now() == pytest.approx(90)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await anyio.sleep_forever()
        assert clock.now() == pytest.approx(100)
        with anyio.fail_after(10):
            await clock.sleep(9.5)
        assert anyio.current_time() == pytest.approx(clock.now())

    clock.run(main)


def test_nested_task_groups_are_cancelled_at_their_own_deadlines() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []

    async def worker(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append((name, round(clock.now(), 6)))

    async def inner() -> None:
        with anyio.move_on_after(DAY / 2):
            async with anyio.create_task_group() as group:
                group.start_soon(worker, "inner")

    async def main() -> None:
        with anyio.move_on_after(DAY):
            async with anyio.create_task_group() as group:
                group.start_soon(worker, "outer")
                group.start_soon(inner)

    clock.run(main)
    assert seen == [("inner", DAY / 2), ("outer", DAY)]


def test_aiolimiter_follows_it() -> None:
    clock = VirtualClock()

    async def main() -> list[float]:
        limiter = AsyncLimiter(1, 2.0)
        times = []
        for _ in range(500):
            await limiter.acquire()
            times.append(clock.now())
        return times

    times = clock.run(main)
    assert times == pytest.approx([2.0 * number for number in range(500)], abs=1e-3)


@pytest.mark.parametrize("rate", [3, 7.5, 10, 250, 1 / 3])
def test_a_timer_set_for_now_lets_time_pass(rate: float) -> None:
    # The limiter's level never gets quite to zero at such rates, and it sets timers for the present moment.
    clock = VirtualClock()

    async def main() -> float:
        limiter = AsyncLimiter(1, 1 / rate)
        for _ in range(300):
            await limiter.acquire()
        return clock.now()

    assert clock.run(main) == pytest.approx(299 / rate, rel=1e-3)


def test_ready_work_from_a_thread_is_taken_while_no_timer_waits() -> None:
    clock = VirtualClock()

    async def main() -> int:
        return await anyio.to_thread.run_sync(lambda: 7)

    assert clock.run(main) == 7
    assert clock.now() == 0.0


def test_a_long_simulation_is_cheap() -> None:
    clock = VirtualClock()
    ticks = 0

    async def ticker(period: float) -> None:
        nonlocal ticks
        while True:
            await clock.sleep(period)
            ticks += 1

    async def main() -> None:
        with anyio.move_on_after(DAY):
            async with anyio.create_task_group() as group:
                group.start_soon(ticker, 60)
                group.start_soon(ticker, 300)

    before = time.process_time()
    clock.run(main)
    assert ticks in range(1439 + 287, 1440 + 288 + 1)
    # Generous: it takes about 0.1 s. Waiting for a single real tick would take 60.
    assert time.process_time() - before < 10


async def test_the_system_clock_tells_real_time() -> None:
    clock: Clock = SystemClock()
    before, wall = clock.now(), time.time()
    await clock.sleep(0.001)
    assert clock.now() >= before + 0.001
    assert wall <= clock.wall() <= time.time()
