"""Outages, refusals that last, and failures of the network, in virtual time: few calls, and nothing failed for them."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest
from limited_server import mill

from promptmill._routing import Route
from promptmill.clock import VirtualClock
from promptmill.errors import NeverSent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response

Trouble = Callable[[], ProviderError | None]


class Shaky(RealtimeProvider):
    """Answers after a second, unless ``trouble`` says otherwise."""

    model = "shaky"

    def __init__(self, clock: VirtualClock, trouble: Trouble) -> None:
        self.clock = clock
        self.calls: list[float] = []
        self._trouble = trouble

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls.append(self.clock.now())
        await anyio.sleep(0.02)
        failure = self._trouble()
        if failure is not None:
            raise failure
        await anyio.sleep(1.0)
        return Response(text="x")

    def between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.calls)


def down(clock: VirtualClock, start: float, end: float, failure: Callable[[], ProviderError]) -> Trouble:
    return lambda: failure() if start <= clock.now() < end else None


def test_a_tenth_of_failures_costs_a_tenth_more_calls() -> None:
    clock, rng = VirtualClock(), random.Random(1)
    shaky = Shaky(clock, lambda: Transient("no", http_status=500) if rng.random() < 0.1 else None)
    outcome = mill(clock, {"a": shaky}, count=5_000, concurrency=50)
    assert all(result.ok for result in outcome.results)
    assert len(shaky.calls) <= 1.12 * 5_000
    assert outcome.warnings == []


def test_a_third_of_failures_is_slow_and_fails_hardly_anything() -> None:
    clock, rng = VirtualClock(), random.Random(1)
    shaky = Shaky(clock, lambda: Transient("no", http_status=500) if rng.random() < 0.3 else None)
    outcome = mill(clock, {"a": shaky}, count=2_000, concurrency=50)
    assert sum(not result.ok for result in outcome.results) <= 2_000 * 0.3**5 * 3
    assert outcome.took <= 4 * 2_000 / 50 / 0.7


@pytest.mark.parametrize(
    "failure", [lambda: Transient("down", http_status=500), lambda: NeverSent("refused")], ids=["500", "refused"]
)
def test_five_minutes_of_outage_fail_nothing_and_cost_few_calls(failure: Callable[[], ProviderError]) -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, down(clock, 100, 400, failure))
    outcome = mill(clock, {"a": shaky}, count=10_000, concurrency=20)
    assert all(result.ok for result in outcome.results)
    assert shaky.between(100, 400) <= 20 + 20 + 12
    assert len(shaky.calls) <= 1.01 * 10_000
    assert outcome.took <= 10_000 / 20 * 1.02 + 300 + 75
    assert len(outcome.warnings) == 2, "when it was left alone, and when it was back"
    assert "left alone" in outcome.warnings[0]
    assert "is back" in outcome.warnings[1]


def test_during_an_outage_requests_go_to_the_fallback() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, down(clock, 10, 100_000, lambda: Transient("down", http_status=500)))
    well = Shaky(clock, lambda: None)
    routes = [Route("a", fallback=("b",))]
    outcome = mill(clock, {"a": shaky, "b": well}, count=1_000, concurrency=20, routes=routes)
    assert all(result.ok for result in outcome.results)
    assert len(well.calls) >= 750
    assert outcome.took <= 100


def test_an_outage_of_more_than_an_hour_stops_the_run_and_fails_nothing() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, down(clock, 100, 10_000, lambda: Transient("down", http_status=500)))
    outcome = mill(clock, {"a": shaky}, count=10_000, concurrency=20)
    assert outcome.engine.stopped is not None
    assert outcome.engine.stopped.code == "E0522"
    assert outcome.engine.stopped.exit_code == 5
    assert 3_600 <= outcome.took <= 3_900
    assert all(result.ok for result in outcome.results)


def test_requests_that_always_fail_fail_soon_though_nothing_else_is_left() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, lambda: Transient("poison", http_status=500))
    outcome = mill(clock, {"a": shaky}, count=3, concurrency=20)
    assert [result.ok for result in outcome.results] == [False] * 3
    assert outcome.took <= 120


def daily(clock: VirtualClock, start: float, seconds: float) -> Trouble:
    def refuse() -> ProviderError | None:
        if not start <= clock.now() < start + seconds:
            return None
        left = start + seconds - clock.now()
        return Throttled("the daily limit is used up", retry_after=left, dimension="requests_per_day")

    return refuse


def test_a_daily_limit_is_told_at_once_and_waited_for() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, daily(clock, 20, 7 * 3600))
    outcome = mill(clock, {"a": shaky}, count=1_000, concurrency=20)
    assert all(result.ok for result in outcome.results)
    assert shaky.between(20, 7 * 3600) <= 40
    assert len(outcome.warnings) == 1
    assert "requests per day" in outcome.warnings[0]
    assert "2023-11-15 05:13" in outcome.warnings[0], "7 hours after 22:13"


def test_a_rest_that_was_told_is_no_silence() -> None:
    """Neither is it one of the whole key: six calls wait as long as they were told to, at the same time."""
    clock = VirtualClock()
    refusals = iter([Throttled("no", retry_after=1_000.0)] * 6)
    shaky = Shaky(clock, lambda: next(refusals, None))
    outcome = mill(clock, {"a": shaky}, count=10, concurrency=1)
    assert outcome.engine.stopped is None
    assert all(result.ok for result in outcome.results)
    assert 1_000 < outcome.took < 1_200


def test_a_daily_limit_sends_what_can_go_elsewhere_there() -> None:
    clock = VirtualClock()
    shaky, well = Shaky(clock, daily(clock, 20, 7 * 3600)), Shaky(clock, lambda: None)
    routes = [Route("a", fallback=("b",))]
    outcome = mill(clock, {"a": shaky, "b": well}, count=1_000, concurrency=20, routes=routes)
    assert all(result.ok for result in outcome.results)
    assert outcome.took < 120


def test_a_daily_limit_of_the_job_is_told_when_it_is_used_up() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, lambda: None)
    outcome = mill(clock, {"a": shaky}, limits={"rpd": 100.0}, count=150, concurrency=20)
    assert all(result.ok for result in outcome.results)
    assert shaky.between(0, 86_400) == 100
    assert outcome.took >= 86_400
    assert len(outcome.warnings) == 1
    assert "rests until 2023-11-15 22:13" in outcome.warnings[0]


def test_a_daily_limit_of_the_job_sends_what_can_go_elsewhere_there() -> None:
    clock = VirtualClock()
    servers = {name: Shaky(clock, lambda: None) for name in ("a", "b")}
    routes = [Route("a", fallback=("b",))]
    outcome = mill(clock, servers, limits={"rpd": 100.0}, count=150, concurrency=20, routes=routes)
    assert all(result.ok for result in outcome.results)
    assert outcome.took < 60
    assert len(servers["b"].calls) == 50


def test_a_failure_after_hours_of_idleness_is_no_hour_of_silence() -> None:
    clock = VirtualClock()

    class Late(Shaky):
        async def complete(self, request: Request, *, timeout: float) -> Response:
            await anyio.sleep(2 * 3_600.0)
            raise QuotaExhausted("the credit is used up")

    class First:
        def matches(self, request: Request) -> bool:
            return request.index == 0

    troubles = iter([None, Transient("once", http_status=500)])
    servers = {"late": Late(clock, lambda: None), "idle": Shaky(clock, lambda: next(troubles, None))}
    routes = [Route("idle", First()), Route("late", fallback=("idle",))]
    outcome = mill(clock, servers, count=2, routes=routes, timeout=10_000.0)
    assert outcome.engine.stopped is None
    assert [(result.ok, result.provider) for result in outcome.results] == [(True, "idle")] * 2
    assert servers["idle"].between(0, 10) == 1


@pytest.mark.parametrize("wait", [1e9, 30 * 86400.0])
def test_a_wait_no_limit_has_stops_the_run_and_fails_nothing(wait: float) -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, down(clock, 20, 1e12, lambda: Throttled("no", retry_after=wait)))
    outcome = mill(clock, {"a": shaky}, count=1_000, concurrency=20)
    assert outcome.engine.stopped is not None
    assert outcome.engine.stopped.code == "E0510"
    assert outcome.took < 60
    assert all(result.ok for result in outcome.results)


def test_what_was_never_sent_uses_up_no_attempts() -> None:
    clock = VirtualClock()
    shaky = Shaky(clock, lambda: None)
    failures = iter([NeverSent("refused")] * 8 + [Transient("once", http_status=500)] * 4)

    async def complete(request: Request, *, timeout: float) -> Response:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return Response(text="x")

    shaky.complete = complete  # type: ignore[method-assign]
    warm = iter([Response(text="x")])

    async def first(request: Request, *, timeout: float) -> Response:
        response = next(warm, None)
        return response if response is not None else await complete(request, timeout=timeout)

    shaky.complete = first  # type: ignore[method-assign]
    outcome = mill(clock, {"a": shaky}, count=2, concurrency=1)
    assert [result.ok for result in outcome.results] == [True, True], "5 attempts are allowed, and 4 failed"


def test_lost_calls_bring_the_calls_at_once_down() -> None:
    clock = VirtualClock()
    limit = 30

    class Overloaded(Shaky):
        at_once = 0

        async def complete(self, request: Request, *, timeout: float) -> Response:
            self.at_once += 1
            try:
                if self.at_once > limit:
                    raise Transient("overloaded", http_status=503)
                return await super().complete(request, timeout=timeout)
            finally:
                self.at_once -= 1

    server = Overloaded(clock, lambda: None)
    outcome = mill(clock, {"a": server}, count=3_000)
    assert all(result.ok for result in outcome.results)
    assert outcome.engine.concurrency <= 1.3 * limit
    assert outcome.took <= 3_000 / limit * 1.02 * 2
