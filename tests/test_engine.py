"""The way of a prompt, in virtual time: hours pass in moments and nothing depends on the machine's speed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from promptmill import Pipeline
from promptmill._causes import only_cause
from promptmill._engine import Engine
from promptmill._engine_spec import EngineSpec, Entry, StopWhen
from promptmill._lane import LaneSpec
from promptmill._routing import Route, Router
from promptmill.clock import VirtualClock
from promptmill.errors import (
    AuthFailed,
    InputError,
    NeverSent,
    Permanent,
    ProviderError,
    QuotaExhausted,
    RunLocked,
    RunStopped,
    StorageError,
    Throttled,
    Transient,
)
from promptmill.interfaces import (
    AttemptFailed,
    Decision,
    Fail,
    Fallback,
    Observer,
    Position,
    RealtimeProvider,
    Retry,
    Sink,
)
from promptmill.models import ErrorInfo, Message, Request, Response, Result, TokenEstimate, Usage
from promptmill.options import BuildContext, Price, ProviderOptions
from promptmill.testing import request

Answer = Callable[[Request], Awaitable[str]]


class Fake(RealtimeProvider):
    """Answers with a function and keeps count of what is going on."""

    model = "fake"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.calls: list[str] = []
        self.in_flight = 0
        self.peak = 0
        self.cancelled = 0

    async def complete(self, request: Request, *, timeout: float) -> Response:
        self.calls.append(request.id)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return Response(text=await self._answer(request), finish_reason="stop")
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1


def after(seconds: float, *failures: BaseException) -> Answer:
    """Answers after ``seconds``; the first calls raise ``failures`` instead."""
    script = iter(failures)

    async def answer(request: Request) -> str:
        await anyio.sleep(seconds)
        failure = next(script, None)
        if failure is not None:
            raise failure
        return f"answer to {request.id}"

    return answer


def always(failure: Exception) -> Answer:
    return after(0.0, *itertools.repeat(failure, 100_000))


class Policy:
    """Retries after ``delay`` seconds until ``attempts`` calls were made, then falls back."""

    def __init__(self, attempts: int = 3, delay: float = 1.0) -> None:
        self.attempts = attempts
        self.delay = delay
        self.seen: list[tuple[str, int, float]] = []

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        self.seen.append((failure.code, attempts, elapsed))
        if isinstance(failure, Permanent):
            return Fail()
        return Retry(self.delay) if attempts < self.attempts else Fallback()


class ListSink(Sink):
    def __init__(self, fail_after: int | None = None) -> None:
        self.results: list[Result] = []
        self.committed = 0
        self._fail_after = fail_after

    async def start(self, position: Position | None) -> None:
        pass

    async def write(self, results: Sequence[Result]) -> None:
        if self._fail_after is not None and len(self.results) >= self._fail_after:
            raise StorageError("the disk is full", code="E0602")
        self.results += results

    async def commit(self) -> Position:
        self.committed = len(self.results)
        return {}


async def entries(count: int, **fields: Any) -> AsyncIterator[Sequence[Entry]]:
    for start in range(0, count, 10):
        yield [request(id=str(at), index=at, **fields) for at in range(start, min(start + 10, count))]


class Bench:
    """An engine on virtual time with what it delivered."""

    def __init__(
        self,
        providers: dict[str, Fake],
        *,
        routes: list[Route] | None = None,
        concurrency: int = 10,
        timeout: float = 600.0,
        limits: dict[str, float] | None = None,
        **spec: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.delivered: list[Result] = []
        self.engine: Engine
        self._during: Callable[[Engine], Awaitable[None]] | None = None
        self._lanes = [
            LaneSpec(name=name, provider=one, concurrency=concurrency, timeout=timeout, limits=limits or {})
            for name, one in providers.items()
        ]
        self._router = Router(routes or [Route(next(iter(providers)))], list(providers))
        self._spec = {"policy": Policy(), **spec}

    def run(
        self,
        source: AsyncIterator[Sequence[Entry]],
        *,
        during: Callable[[Engine], Awaitable[None]] | None = None,
        consumer_delay: float = 0.0,
    ) -> float:
        """Run to the end; returns the virtual seconds it took."""

        async def consume(group: Sequence[Result]) -> None:
            await anyio.sleep(consumer_delay)
            self.delivered += group

        async def main() -> float:
            spec = EngineSpec(lanes=self._lanes, router=self._router, clock=self.clock, **self._spec)
            self.engine = Engine(spec, consume)
            if during is None:
                await self.engine.run(source)
                return self.clock.now()
            async with anyio.create_task_group() as group:
                group.start_soon(during, self.engine)
                await self.engine.run(source)
                took = self.clock.now()
                group.cancel_scope.cancel()
            return took

        return self.clock.run(main)

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.delivered]

    def only(self) -> Result:
        (result,) = self.delivered
        return result


def test_a_hundred_requests_at_once_take_as_long_as_one() -> None:
    one_by_one, at_once = Fake(after(0.2)), Fake(after(0.2))
    slow = Bench({"a": one_by_one}, concurrency=1).run(entries(100))
    fast = Bench({"a": at_once}, concurrency=100).run(entries(100))
    assert slow == pytest.approx(20.0)
    assert fast == pytest.approx(0.2)
    assert at_once.peak == 100


@pytest.mark.parametrize("concurrency", [1, 3, 10])
def test_no_more_calls_than_the_concurrency_and_no_fewer(concurrency: int) -> None:
    provider = Fake(after(1.0))
    bench = Bench({"a": provider}, concurrency=concurrency)
    took = bench.run(entries(50))
    assert provider.peak == concurrency
    assert took == pytest.approx(-(-50 // concurrency))
    assert sorted(bench.ids, key=int) == [str(at) for at in range(50)]


def test_an_empty_input_ends_at_once() -> None:
    provider = Fake(after(1.0))
    bench = Bench({"a": provider})
    assert bench.run(entries(0)) == 0.0
    assert bench.delivered == []
    assert provider.calls == []


def test_results_come_in_the_order_of_completion() -> None:
    async def answer(request: Request) -> str:
        await anyio.sleep(10 - request.index)
        return "x"

    bench = Bench({"a": Fake(answer)})
    bench.run(entries(10))
    assert bench.ids == [str(at) for at in range(9, -1, -1)]


def test_a_waiting_retry_holds_no_slot() -> None:
    provider = Fake(after(1.0, Transient("boom")))
    bench = Bench({"a": provider}, concurrency=1, policy=Policy(delay=100.0))
    took = bench.run(entries(5))
    assert bench.ids == ["1", "2", "3", "4", "0"]
    assert took == pytest.approx(102.0)
    assert bench.delivered[-1].attempts == 2


def test_retries_stop_when_the_policy_says_so_and_the_record_tells() -> None:
    bench = Bench({"a": Fake(always(Transient("boom", code="server_error", http_status=503)))})
    bench.run(entries(1))
    result = bench.only()
    assert (result.status, result.attempts, result.text) == ("failed", 3, None)
    assert result.error == ErrorInfo(code="server_error", message="boom", http_status=503, retryable=True)


def test_the_policy_hears_attempts_and_elapsed_time() -> None:
    policy = Policy(attempts=3, delay=5.0)
    Bench({"a": Fake(always(Throttled("slow down")))}, policy=policy).run(entries(1))
    assert policy.seen == [("rate_limited", 1, 0.0), ("rate_limited", 2, 5.0), ("rate_limited", 3, 10.0)]


def test_a_slow_lane_never_holds_up_a_quick_one() -> None:
    """10,000 requests queue for the slow one before the first of the quick one comes."""

    class ForSlow:
        def matches(self, request: Request) -> bool:
            return request.index < 10_000

    slow, quick = Fake(after(3600.0)), Fake(after(1.0))
    bench = Bench({"slow": slow, "quick": quick}, routes=[Route("slow", ForSlow()), Route("quick")], concurrency=100)

    async def stop(engine: Engine) -> None:
        await anyio.sleep(10)
        assert len(quick.calls) == 50
        assert engine.lanes["slow"].queued == 10_000 - 100
        engine.abort(_stop())

    bench.run(entries(10_050), during=stop)
    assert sum(one.provider == "quick" for one in bench.delivered) == 50


def test_input_is_read_only_as_far_as_needed() -> None:
    read = 0

    async def endless() -> AsyncIterator[Sequence[Entry]]:
        nonlocal read
        for index in itertools.count():
            read = index
            yield [request(id=str(index), index=index)]

    async def stop(engine: Engine) -> None:
        await anyio.sleep(10)
        engine.stop(_stop())

    bench = Bench({"a": Fake(after(1.0))}, concurrency=10)
    bench.run(endless(), during=stop)
    assert len(bench.delivered) == pytest.approx(100, abs=11)
    assert read < 300


def test_a_slow_consumer_slows_the_calls_down() -> None:
    provider = Fake(after(0.001))

    async def look(engine: Engine) -> None:
        await anyio.sleep(100)
        assert len(provider.calls) < 4096 + 1000 + 200
        engine.stop(_stop(), grace=0)

    Bench({"a": provider}, concurrency=100).run(entries(20_000), during=look, consumer_delay=1000.0)
    assert provider.calls


def test_a_failed_request_falls_back_along_its_route() -> None:
    first, second = Fake(always(Transient("boom"))), Fake(after(0.0))
    bench = Bench({"a": first, "b": second}, routes=[Route("a", fallback=("b",))])
    bench.run(entries(1))
    result = bench.only()
    assert (result.status, result.provider, result.attempts) == ("ok", "b", 4)
    assert len(first.calls) == 3


def test_when_the_whole_route_fails_the_last_failure_is_told() -> None:
    bench = Bench(
        {"a": Fake(always(Transient("boom"))), "b": Fake(always(Transient("bang", code="timeout")))},
        routes=[Route("a", fallback=("b",))],
    )
    bench.run(entries(1))
    assert bench.only().error == ErrorInfo(code="timeout", message="bang", retryable=True)
    assert bench.only().attempts == 6


def test_a_permanent_failure_is_not_repeated() -> None:
    provider = Fake(always(Permanent("no such model", code="not_found", http_status=404)))
    bench = Bench({"a": provider})
    bench.run(entries(3))
    assert len(provider.calls) == 3
    assert {one.status for one in bench.delivered} == {"failed"}
    assert bench.engine.stopped is None


def test_a_refused_key_stops_the_run_and_marks_nothing_failed() -> None:
    provider = Fake(always(AuthFailed("bad key", http_status=401)))
    bench = Bench({"a": provider}, concurrency=2)
    bench.run(entries(1000))
    assert bench.delivered == []
    assert len(provider.calls) == 2
    assert bench.engine.stopped is not None
    assert (bench.engine.stopped.exit_code, bench.engine.stopped.code) == (3, "E0501")


def test_a_used_up_quota_stops_the_run_when_there_is_no_other_way() -> None:
    provider = Fake(after(1.0, *[QuotaExhausted("no money")] * 3))
    bench = Bench({"a": provider}, concurrency=3)
    bench.run(entries(1000))
    assert bench.delivered == []
    assert len(provider.calls) == 3
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 4


def test_a_used_up_quota_moves_the_rest_to_the_fallback_without_asking_again() -> None:
    poor, rich = Fake(always(QuotaExhausted("no money"))), Fake(after(0.0))
    bench = Bench({"poor": poor, "rich": rich}, routes=[Route("poor", fallback=("rich",))], concurrency=1)
    bench.run(entries(100))
    assert len(poor.calls) == 1
    assert [one.provider for one in bench.delivered] == ["rich"] * 100


def test_a_provider_that_was_never_reached_stops_the_run_within_ten_seconds() -> None:
    provider = Fake(always(NeverSent("connection refused", code="connect_refused")))
    bench = Bench({"a": provider}, policy=Policy(attempts=1000, delay=0.5))
    assert bench.run(entries(1000)) <= 10.0
    assert bench.delivered == []
    assert bench.engine.stopped is not None
    assert (bench.engine.stopped.exit_code, bench.engine.stopped.code) == (3, "E0502")


def test_a_fallback_takes_over_with_all_its_workers() -> None:
    first, second = Fake(after(1.0, *itertools.repeat(QuotaExhausted("empty"), 10))), Fake(after(1.0))
    bench = Bench({"a": first, "b": second}, routes=[Route("a", fallback=("b",))], concurrency=10)
    assert bench.run(entries(10)) == pytest.approx(2.0, abs=0.01)
    assert (second.peak, len(bench.delivered)) == (10, 10)


def test_what_waits_for_a_slow_fallback_does_not_fill_the_memory() -> None:
    first, second = Fake(always(QuotaExhausted("empty"))), Fake(after(1.0))
    bench = Bench({"a": first, "b": second}, routes=[Route("a", fallback=("b",))], concurrency=100)
    most = 0

    async def watch(engine: Engine) -> None:
        nonlocal most
        while True:
            most = max(most, engine.lanes["b"].retrying)
            await anyio.sleep(0.1)

    bench.run(entries(5000), during=watch)
    assert sorted(bench.ids, key=int) == [str(at) for at in range(5000)]
    assert 0 < most <= 400
    assert {one.provider for one in bench.delivered} == {"b"}
    assert max(one.attempts for one in bench.delivered) == 2


def test_what_is_too_large_for_one_provider_goes_to_the_next() -> None:
    small, large = Fake(after(1.0)), Fake(after(1.0))
    bench = Bench({"a": small, "b": large}, routes=[Route("a", fallback=("b",))])
    bench._lanes[0] = msgspec.structs.replace(bench._lanes[0], limits={"tpm": 100.0})
    bench.run(entries(1, messages=(Message("user", "x" * 10_000),)))
    assert (bench.only().provider, small.calls, len(large.calls)) == ("b", [], 1)


def test_what_was_never_sent_does_not_make_a_provider_reached() -> None:
    provider = Fake(always(NeverSent("nobody there")))
    bench = Bench({"a": provider}, limits={"tpm": 100.0})

    async def source() -> AsyncIterator[Sequence[Entry]]:
        yield [request(id="large", index=0, messages=(Message("user", "x" * 10_000),))]
        yield [request(id=str(at), index=at) for at in range(1, 6)]

    bench.run(source())
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 3
    assert bench.ids == ["large"]


def test_a_queue_that_cannot_be_read_stops_the_run_and_keeps_what_is_paid() -> None:
    provider = Fake(after(5.0))
    bench = Bench({"a": provider}, concurrency=2)

    async def breaks(engine: Engine) -> None:
        await anyio.sleep(7.0)

        def fail() -> None:
            raise StorageError("the disk is gone", code="E0620")

        engine.lanes["a"]._waiting._queue.popleft = fail  # type: ignore[method-assign]

    bench.run(entries(100), during=breaks)
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 6
    assert len(bench.delivered) == len(provider.calls) == 4
    assert provider.cancelled == 0


@pytest.mark.parametrize("what", ["estimate", "complete"])
def test_a_plugin_that_breaks_its_contract_costs_its_request_only(what: str) -> None:
    class Sloppy(Fake):
        def estimate(self, request: Request) -> TokenEstimate:
            if what == "estimate" and request.index == 3:
                raise ZeroDivisionError
            return super().estimate(request)

        async def complete(self, request: Request, *, timeout: float) -> Response:
            response = await super().complete(request, timeout=timeout)
            return None if what == "complete" and request.index == 3 else response  # type: ignore[return-value]

    bench = Bench({"a": Sloppy(after(1.0))}, concurrency=4, limits={"tpm": 6e9})
    bench.run(entries(20))
    assert bench.engine.stopped is None
    assert len(bench.delivered) == 20
    assert [(one.index, one.error.code) for one in bench.delivered if one.error] == [(3, "provider_bug")]


def test_an_unreachable_provider_with_a_fallback_does_not_stop_the_run() -> None:
    bench = Bench(
        {"a": Fake(always(NeverSent("refused"))), "b": Fake(after(0.0))}, routes=[Route("a", fallback=("b",))]
    )
    bench.run(entries(20))
    assert [one.provider for one in bench.delivered] == ["b"] * 20


def test_a_connection_lost_later_on_is_waited_for_and_fails_nothing() -> None:
    async def answer(request: Request) -> str:
        if 10 <= bench.clock.now() <= 1000:
            raise NeverSent("refused")
        await anyio.sleep(1)
        return "x"

    bench = Bench({"a": Fake(answer)}, concurrency=1, policy=Policy(attempts=3, delay=10.0))
    bench.run(entries(20))
    assert [one.status for one in bench.delivered] == ["ok"] * 20
    assert bench.engine.stopped is None


def test_a_connection_lost_for_an_hour_stops_the_run_and_fails_nothing() -> None:
    async def answer(request: Request) -> str:
        if request.index >= 10:
            raise NeverSent("refused")
        return "x"

    bench = Bench({"a": Fake(answer)}, concurrency=1, policy=Policy(attempts=3, delay=10.0))
    bench.run(entries(12))
    assert [one.status for one in bench.delivered] == ["ok"] * 10
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.code == "E0522"


def test_too_many_failures_stop_the_run_after_the_minimum() -> None:
    async def answer(request: Request) -> str:
        await anyio.sleep(1)
        if request.index % 2:
            raise Permanent("bad")
        return "x"

    bench = Bench({"a": Fake(answer)}, concurrency=1, stop_when=StopWhen(failure_rate=0.4, after=20))
    bench.run(entries(1000))
    assert len(bench.delivered) == 20
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 5


def test_a_run_that_is_through_is_not_stopped_any_more() -> None:
    bench = Bench({"a": Fake(always(Permanent("bad")))}, stop_when=StopWhen(failure_rate=0.1, after=10))
    bench.run(entries(10))
    assert len(bench.delivered) == 10
    assert bench.engine.stopped is None


def test_a_tolerable_failure_rate_does_not() -> None:
    async def answer(request: Request) -> str:
        if request.index % 5 == 0:
            raise Permanent("bad")
        return "x"

    bench = Bench({"a": Fake(answer)}, stop_when=StopWhen(failure_rate=0.25, after=20), concurrency=1)
    bench.run(entries(100))
    assert len(bench.delivered) == 100
    assert bench.engine.stopped is None


def test_a_stop_lets_calls_in_flight_finish_and_sends_nothing_more() -> None:
    provider = Fake(after(10.0))

    async def stop(engine: Engine) -> None:
        await anyio.sleep(5)
        engine.stop(_stop(), grace=30)

    bench = Bench({"a": provider}, concurrency=4)
    assert bench.run(entries(100), during=stop) == pytest.approx(10.0)
    assert len(bench.delivered) == len(provider.calls) == 4
    assert provider.cancelled == 0


def test_calls_that_outlast_the_grace_are_cancelled() -> None:
    provider = Fake(after(1000.0))

    async def stop(engine: Engine) -> None:
        await anyio.sleep(5)
        engine.stop(_stop(), grace=30)

    bench = Bench({"a": provider}, concurrency=4)
    assert bench.run(entries(100), during=stop) == pytest.approx(35.0)
    assert bench.delivered == []
    assert provider.cancelled == 4


def test_an_abort_cancels_at_once_and_keeps_what_has_finished() -> None:
    async def answer(request: Request) -> str:
        await anyio.sleep(1000 if request.index >= 6 else 1)
        return "x"

    async def stop(engine: Engine) -> None:
        await anyio.sleep(5)
        engine.stop(_stop())
        await anyio.sleep(1)
        engine.abort(_stop())

    sink = ListSink()
    bench = Bench({"a": Fake(answer)}, concurrency=4, sinks=[sink])
    assert bench.run(entries(100), during=stop) == pytest.approx(6.0)
    assert len(sink.results) == 6


def test_a_stopped_run_does_not_wait_for_retries() -> None:
    async def stop(engine: Engine) -> None:
        await anyio.sleep(5)
        engine.stop(_stop())

    bench = Bench({"a": Fake(always(Transient("boom")))}, policy=Policy(delay=1000.0))
    assert bench.run(entries(3), during=stop) == pytest.approx(5.0)
    assert bench.delivered == []


def test_a_call_over_its_timeout_is_a_transient_failure_and_frees_its_slot() -> None:
    provider = Fake(after(1000.0))
    bench = Bench({"a": provider}, timeout=60.0, concurrency=1, policy=Policy(attempts=2))
    assert bench.run(entries(2)) == pytest.approx(240.0, abs=2)
    assert {one.error.code for one in bench.delivered if one.error} == {"timeout"}
    assert all(one.error and one.error.retryable for one in bench.delivered)
    assert provider.in_flight == 0


def test_a_plugin_that_raises_costs_its_request_only() -> None:
    async def answer(request: Request) -> str:
        if request.index == 3:
            raise ZeroDivisionError("plugin trouble")
        return "x"

    bench = Bench({"a": Fake(answer)})
    bench.run(entries(10))
    (failed,) = [one for one in bench.delivered if not one.ok]
    assert failed.error is not None
    assert failed.error.code == "provider_bug"
    assert "ZeroDivisionError: plugin trouble" in failed.error.message
    assert len(bench.delivered) == 10


def test_a_cancellation_of_the_providers_own_costs_its_request_only() -> None:
    provider = Fake(after(0.1, asyncio.CancelledError()))
    bench = Bench({"a": provider}, concurrency=2)
    bench.run(entries(20))
    assert bench.engine.stopped is None
    assert len(bench.delivered) == 20
    (failed,) = [one for one in bench.delivered if not one.ok]
    assert failed.error is not None
    assert failed.error.code == "provider_bug"


def test_a_provider_that_answers_when_it_is_cancelled_loses_no_request() -> None:
    """Its late answer counts: it is paid for. The worker goes on with the next request, and nothing is cancelled."""

    async def answer(request: Request) -> str:
        try:
            await anyio.sleep(1000.0 if request.index % 3 == 0 else 1.0)
        except anyio.get_cancelled_exc_class():
            return "just in time"
        return "in time"

    bench = Bench({"a": Fake(answer)}, timeout=60.0, concurrency=2)
    took = bench.run(entries(12))
    assert sorted(bench.ids, key=int) == [str(at) for at in range(12)]
    assert [one.text for one in sorted(bench.delivered, key=lambda one: one.index)][:3] == [
        "just in time",
        "in time",
        "in time",
    ]
    assert took < 200.0


def test_calls_that_end_together_with_their_timeout_lose_nothing() -> None:
    provider = Fake(after(60.0))
    bench = Bench({"a": provider}, timeout=60.0, concurrency=5, policy=Policy(attempts=1))
    bench.run(entries(20))
    assert sorted(bench.ids, key=int) == [str(at) for at in range(20)]


def test_a_timeout_does_not_hide_a_later_cancellation_of_the_providers_own() -> None:
    async def answer(request: Request) -> str:
        if request.index == 0:
            await anyio.sleep(100)
        if request.index == 1:
            raise asyncio.CancelledError
        return "fine"

    bench = Bench({"a": Fake(answer)}, concurrency=1, timeout=1.0, policy=Policy(attempts=1))
    bench.run(entries(3))
    assert [one.error.code if one.error else "ok" for one in bench.delivered] == ["timeout", "provider_bug", "ok"]


def test_a_plugin_that_always_raises_stops_the_run() -> None:
    provider = Fake(always(ZeroDivisionError("plugin trouble")))
    bench = Bench({"a": provider}, concurrency=1)
    bench.run(entries(1000))
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 70
    assert len(provider.calls) == 20


def test_rows_that_are_failures_already_are_delivered_without_a_call() -> None:
    async def mixed() -> AsyncIterator[Sequence[Entry]]:
        bad = Result(id="2", index=1, status="failed", error=ErrorInfo(code="input_json", message="broken"))
        yield [request(id="1", index=0), bad, request(id="3", index=2)]

    provider = Fake(after(0.0))
    bench = Bench({"a": provider})
    bench.run(mixed())
    assert sorted((one.id, one.status) for one in bench.delivered) == [("1", "ok"), ("2", "failed"), ("3", "ok")]
    assert provider.calls == ["1", "3"]


def test_a_source_that_fails_ends_the_run_with_its_own_error() -> None:
    async def broken() -> AsyncIterator[Sequence[Entry]]:
        yield [request(id="1")]
        await anyio.sleep(5)
        raise InputError("the disk went away")

    sink = ListSink()
    with pytest.raises(InputError, match="the disk went away") as raised:
        Bench({"a": Fake(after(10.0))}, sinks=[sink]).run(broken())
    assert raised.value.calls_made
    assert [one.id for one in sink.results] == ["1"]  # it was paid for, so it is kept


def test_every_result_is_committed_before_the_consumer_sees_it() -> None:
    sink = ListSink()
    bench = Bench({"a": Fake(after(0.1))}, sinks=[sink])

    async def consume(group: Sequence[Result]) -> None:
        assert sink.committed >= len(bench.delivered) + len(group)
        bench.delivered += group

    async def main() -> None:
        spec = EngineSpec(lanes=bench._lanes, router=bench._router, clock=bench.clock, **bench._spec)
        await Engine(spec, consume).run(entries(100))

    bench.clock.run(main)
    assert len(bench.delivered) == 100


def test_a_failing_sink_stops_the_run_and_the_other_sink_gets_everything() -> None:
    broken, good = ListSink(fail_after=0), ListSink()
    provider = Fake(after(1.0))
    bench = Bench({"a": provider}, concurrency=4, sinks=[broken, good])
    bench.run(entries(1000))
    assert bench.engine.stopped is not None
    assert bench.engine.stopped.exit_code == 6
    assert len(good.results) == len(provider.calls) <= 8


def test_a_request_rate_is_kept_in_virtual_time() -> None:
    provider = Fake(after(2.0))
    bench = Bench({"a": provider}, limits={"rpm": 60.0})
    took = bench.run(entries(121))
    assert 120 <= took <= 126


def test_a_request_larger_than_the_limit_fails_instead_of_waiting_for_ever() -> None:
    provider = Fake(after(0.0))
    bench = Bench({"a": provider}, limits={"tpm": 1000.0})
    bench.run(entries(1, params={"max_tokens": 5000}))
    assert bench.only().error is not None
    assert bench.only().error.code == "over_limit"  # type: ignore[union-attr]
    assert bench.only().attempts == 0
    assert provider.calls == []


def test_an_operation_the_provider_cannot_do_fails_without_a_call() -> None:
    provider = Fake(after(0.0))
    bench = Bench({"a": provider})
    bench.run(entries(1, operation="embeddings"))
    assert bench.only().error.code == "unsupported_operation"  # type: ignore[union-attr]
    assert provider.calls == []


def test_a_refusal_holds_up_the_request_that_met_it_and_nobody_else() -> None:
    async def answer(request: Request) -> str:
        times.append(bench.clock.now())
        if len(times) == 1:
            raise Throttled("slow down", retry_after=20.0)
        await anyio.sleep(1)
        return "x"

    times: list[float] = []
    bench = Bench({"a": Fake(answer)}, concurrency=1, policy=Policy(delay=20.0))
    bench.run(entries(5))
    assert times[:5] == pytest.approx([0.0, 0.0, 1.0, 2.0, 3.0], abs=0.1)
    assert 20.0 <= times[5] <= 22.0
    assert bench.ids[-1] == "0"


def test_a_provider_that_refuses_everything_is_left_alone_by_all() -> None:
    async def answer(request: Request) -> str:
        times.append(bench.clock.now())
        if bench.clock.now() < 60:
            raise Throttled("slow down")
        await anyio.sleep(1)
        return "x"

    times: list[float] = []
    bench = Bench({"a": Fake(answer)}, concurrency=4, policy=Policy(delay=0.0))
    bench.run(entries(50))
    assert len(bench.ids) == 50
    assert sum(at < 60 for at in times) <= 30, "eight in a row, and then one call at a time, further and further apart"


def test_an_outage_costs_a_bounded_number_of_calls() -> None:
    provider = Fake(always(Transient("down")))

    async def look(engine: Engine) -> None:
        await anyio.sleep(50)
        assert engine.retrying <= 64 + 4
        assert len(provider.calls) <= 64 + 4
        engine.stop(_stop(), grace=0)

    Bench({"a": provider}, concurrency=4, policy=Policy(delay=100.0)).run(entries(5000), during=look)
    assert provider.calls


def test_urgent_requests_overtake() -> None:
    async def mixed() -> AsyncIterator[Sequence[Entry]]:
        yield [request(id=f"bulk{at}", index=at, priority="bulk") for at in range(50)]
        yield [request(id=f"urgent{at}", index=50 + at, priority="urgent") for at in range(5)]

    bench = Bench({"a": Fake(after(1.0))}, concurrency=1)
    bench.run(mixed())
    places = [bench.ids.index(f"urgent{at}") for at in range(5)]
    assert max(places) <= 6


def test_observers_hear_of_failed_attempts_and_results() -> None:
    class Ears(Observer):
        def __init__(self) -> None:
            self.attempts: list[AttemptFailed] = []
            self.results: list[Result] = []

        def attempt_failed(self, event: AttemptFailed) -> None:
            self.attempts.append(event)

        def request_finished(self, result: Result) -> None:
            self.results.append(result)

    ears = Ears()
    bench = Bench({"a": Fake(after(2.0, Transient("boom")))}, observers=[ears], policy=Policy(delay=7.0))
    bench.run(entries(1))
    (event,) = ears.attempts
    assert (event.request_id, event.provider, event.attempt, event.retry_in) == ("0", "a", 1, 7.0)
    assert event.latency_s == pytest.approx(2.0)
    assert [one.status for one in ears.results] == ["ok"]


def test_an_observer_that_raises_costs_nothing_but_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def request_finished(self, result: Result) -> None:
            raise ZeroDivisionError

    bench = Bench({"a": Fake(after(0.0))}, observers=[Broken()])
    bench.run(entries(5))
    assert len(bench.delivered) == 5
    assert [record.message for record in caplog.records] == ["observer 'Broken' raised and is told nothing more"]


def test_a_run_leaves_no_task_behind() -> None:
    import asyncio

    async def main() -> None:
        spec = EngineSpec(
            lanes=[LaneSpec(name="a", provider=Fake(after(1.0)), concurrency=10, timeout=60)],
            router=Router([Route("a")], ["a"]),
            clock=clock,
            policy=Policy(),
        )
        await Engine(spec).run(entries(100))
        assert len(asyncio.all_tasks()) == 1

    clock = VirtualClock()
    clock.run(main)


def _stop() -> RunStopped:
    return RunStopped("enough", code="E0530", exit_code=130)


def test_several_failures_at_once_are_told_as_the_first_and_bugs_as_they_are() -> None:
    lost, bug = RunLocked("it is another's now"), ZeroDivisionError()
    assert only_cause(ExceptionGroup("", [bug])) is bug
    assert only_cause(ExceptionGroup("", [ExceptionGroup("", [lost]), RunLocked("so it is")])) is lost
    mixed = ExceptionGroup("", [lost, bug])
    assert only_cause(mixed) is mixed


class Ticking(VirtualClock):
    """Time goes on between any two looks at it, as it does in reality."""

    def now(self) -> float:
        self._advance(1e-7)
        return super().now()


def test_a_wait_that_is_over_before_it_begins_is_no_wait() -> None:
    bench = Bench({"a": Fake(after(0.001))}, limits={"rpm": 60_000.0}, concurrency=3)
    bench.clock = Ticking()
    took = bench.run(entries(2_000))
    assert [one.ok for one in bench.delivered] == [True] * 2_000
    assert took < 5


def test_without_money_for_the_rest_the_run_ends_when_its_last_call_is_refused() -> None:
    class Paid(Fake):
        async def complete(self, request: Request, *, timeout: float) -> Response:
            await super().complete(request, timeout=timeout)
            return Response(text="x", usage=Usage(input_tokens=0, output_tokens=50))

    async def answer(request: Request) -> str:
        await anyio.sleep(request.index + 1)
        if request.index == 1:
            raise Transient("no", http_status=500)
        return "x"

    class PaidOptions(ProviderOptions):
        def build(self, context: BuildContext) -> Paid:
            return Paid(answer)

    clock = VirtualClock()
    options = PaidOptions(max_concurrency=2, price=Price(input=0, output=1e6))

    async def main() -> None:
        with anyio.fail_after(86_400.0):
            await Pipeline({"a": options}, clock=clock, budget_usd=190.0).gather(
                [request(id=str(at), index=at, params={"max_tokens": most}) for at, most in enumerate((90, 100, 150))]
            )

    with pytest.raises(RunStopped) as caught:
        clock.run(main)
    assert caught.value.code == "E0511"
    assert clock.now() < 10
