"""The Python API: streaming, gathering, and leaving early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from promptmill import Message, Pipeline, Request, Response, Route, RunStopped, StopWhen
from promptmill.errors import AuthFailed, InputError, JobError, Permanent, ProviderError, StartError
from promptmill.interfaces import Decision, Fail, RealtimeProvider
from promptmill.models import Usage
from promptmill.sinks.memory import MemorySink
from promptmill.testing import EchoProvider, ScriptedProvider
from promptmill.testing.leaks import Leftovers


class Never:
    """A policy that never retries."""

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        return Fail()


class Held(RealtimeProvider):
    """Answers the first requests, then holds the rest until released."""

    def __init__(self, quick: int = 0) -> None:
        self._quick = quick
        self.calls = 0
        self.opened = 0
        self.held = 0
        self.release = anyio.Event()

    async def aopen(self) -> None:
        self.opened += 1

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()  # as one that has connections to close
        self.opened -= 1

    async def complete(self, request: Request, *, timeout: float) -> Response:
        assert self.opened == 1
        self.calls += 1
        if self.calls > self._quick:
            self.held += 1
            try:
                await self.release.wait()
            finally:
                self.held -= 1
        return Response(text=request.messages[0].text)


def pipeline(provider: RealtimeProvider, **options: Any) -> Pipeline:
    return Pipeline({"a": provider}, retry=Never(), **options)


async def test_gather_keeps_the_input_order() -> None:
    class Backwards(RealtimeProvider):
        concurrency = 20

        async def complete(self, request: Request, *, timeout: float) -> Response:
            for _ in range(40 - 2 * request.index):
                await anyio.lowlevel.checkpoint()
            return Response(text=request.messages[0].text)

    results = await pipeline(Backwards()).gather([f"prompt {at}" for at in range(20)])
    assert [one.text for one in results] == [f"prompt {at}" for at in range(20)]
    assert [one.index for one in results] == list(range(20))


async def test_stream_yields_a_result_while_others_are_in_flight() -> None:
    provider = Held(quick=1)
    stream = pipeline(provider).stream(["quick", "held", "held"])
    first = await anext(stream)
    assert first.text == "quick"
    assert provider.held == 2
    provider.release.set()
    assert [one.text async for one in stream] == ["held", "held"]


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
async def test_prompts_come_from_any_iterable(kind: str) -> None:
    given: list[Any] = [
        "a text",
        {"prompt": "a mapping", "id": "x"},
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "messages"}]},
        Request(id="r", messages=(Message("user", "a request"),)),
    ]

    def plain() -> Iterator[Any]:
        yield from given

    async def later() -> AsyncIterator[Any]:
        for prompt in given:
            await anyio.lowlevel.checkpoint()
            yield prompt

    prompts: Any = {"list": given, "generator": plain(), "async generator": later()}[kind]
    results = await pipeline(EchoProvider()).gather(prompts)
    assert [one.text for one in results] == ["a text", "a mapping", "messages", "a request"]
    assert [one.id for one in results] == ["1", "x", "3", "r"]


@pytest.mark.parametrize("bad", [42, None, {"question": "no prompt"}, b"bytes", {"prompt": None}])
async def test_what_is_no_prompt_is_refused_by_position(bad: Any) -> None:
    with pytest.raises(InputError, match="prompt 2"):
        await pipeline(EchoProvider()).gather(["fine", bad])


async def test_one_prompt_instead_of_many_is_refused() -> None:
    with pytest.raises(InputError, match="not one prompt"):
        await pipeline(EchoProvider()).gather("one text")


async def test_failures_are_data() -> None:
    provider = ScriptedProvider(["fine", Permanent("no", code="bad_request", http_status=400), "fine"])
    results = await Pipeline({"a": provider}, retry=Never()).gather(["1", "2", "3"])
    assert sorted(one.status for one in results) == ["failed", "ok", "ok"]


async def test_leaving_the_stream_early_cancels_everything() -> None:
    leftovers = Leftovers()
    provider = Held(quick=3)
    async for result in pipeline(provider).stream(str(at) for at in range(1_000_000)):
        assert result.ok
        break
    await leftovers.none()
    assert provider.held == 0
    assert provider.opened == 0


async def test_closing_the_stream_from_another_task_is_clean() -> None:
    leftovers = Leftovers()
    provider = Held(quick=1)
    stream = pipeline(provider).stream(["a", "b", "c"])
    await anext(stream)
    await asyncio.create_task(stream.aclose())
    assert provider.held == provider.opened == 0
    await leftovers.none()


async def test_a_cancelled_consumer_leaves_nothing_behind() -> None:
    leftovers = Leftovers()
    provider = Held(quick=1)
    with anyio.move_on_after(0.05) as scope:
        async for _ in pipeline(provider).stream(["a", "b", "c"]):
            pass
    assert scope.cancelled_caught
    await leftovers.none()
    assert provider.held == provider.opened == 0


async def test_a_cancelled_gather_leaves_nothing_behind() -> None:
    leftovers = Leftovers()
    provider = Held()
    task = asyncio.create_task(pipeline(provider).gather(["a", "b"]))
    while provider.held < 2:
        await anyio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await leftovers.none()
    assert provider.held == provider.opened == 0


async def test_a_stopped_run_raises_after_its_results() -> None:
    provider = ScriptedProvider(["fine", Permanent("no"), Permanent("no"), Permanent("no")])
    provider.concurrency = 1
    made = pipeline(provider, stop_when=StopWhen(failure_rate=0.5, after=3))
    got = []
    with pytest.raises(RunStopped) as stopped:
        async for result in made.stream(str(at) for at in range(100)):
            got.append(result.status)
    assert got == ["ok", "failed", "failed"]
    assert stopped.value.exit_code == 5


async def test_a_stopped_gather_hands_over_what_was_paid_for() -> None:
    provider = ScriptedProvider(["fine", AuthFailed("no")])
    provider.concurrency = 1
    with pytest.raises(RunStopped) as stopped:
        await pipeline(provider).gather(["a", "b", "c"])
    assert [one.text for one in stopped.value.results] == ["fine"]


async def test_an_error_of_the_callers_iterable_reaches_the_caller() -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await pipeline(EchoProvider()).gather(broken())
    with pytest.raises(KeyError, match="mine"):
        async for _ in pipeline(EchoProvider()).stream(broken()):
            pass


async def test_an_open_pipeline_keeps_its_providers_open() -> None:
    provider = Held(quick=100)
    async with pipeline(provider) as opened:
        await opened.gather(["a"])
        assert provider.opened == 1
        await opened.gather(["b"])
    assert provider.opened == 0


async def test_a_pipeline_that_cannot_be_opened_leaves_nothing_open() -> None:
    class Unreachable(Held):
        async def aopen(self) -> None:
            raise StartError("nobody there")

    first = Held()
    both = Pipeline({"a": first, "b": Unreachable()}, [Route("a")])
    with pytest.raises(StartError):
        await both.__aenter__()
    assert first.opened == 0


async def test_the_summary_counts() -> None:
    provider = ScriptedProvider(["fine", Permanent("no"), "fine"])
    summary = await pipeline(provider).run(["a", "b", "c"])
    assert (summary.total, summary.succeeded, summary.failed, summary.attempts) == (3, 2, 1, 3)
    assert summary.by_provider["a"].attempts == 3
    assert not summary.resumable
    assert summary.cost_usd is None


async def test_routes_must_fit_the_providers() -> None:
    with pytest.raises(JobError, match="no routes"):
        Pipeline({"a": EchoProvider(), "b": EchoProvider()}, retry=Never())
    with pytest.raises(JobError, match="'c', which is not defined"):
        Pipeline({"a": EchoProvider()}, [Route("c")], retry=Never())


async def test_a_thousand_prompts_at_full_concurrency() -> None:
    class Counting(RealtimeProvider):
        concurrency = 100
        now = peak = 0

        async def complete(self, request: Request, *, timeout: float) -> Response:
            self.now += 1
            self.peak = max(self.peak, self.now)
            await anyio.sleep(0.001)
            self.now -= 1
            return Response(text="x")

    provider = Counting()
    results = await pipeline(provider).gather([str(at) for at in range(1000)])
    assert len({one.id for one in results}) == 1000
    assert provider.peak == 100


class Billed(RealtimeProvider):
    """Answers in flex, and says how many tokens that took."""

    model = "gpt-5-mini"
    price_vendor = "openai"

    async def complete(self, request: Request, *, timeout: float) -> Response:
        return Response(text="yes", tier="flex", usage=Usage(input_tokens=1_000_000, output_tokens=1_000_000))


async def test_answers_have_their_cost() -> None:
    sink = MemorySink()
    summary = await pipeline(Billed(), sinks=[sink]).run(["one", "two"])
    assert [result.cost_usd for result in sink.results] == [1.125, 1.125]
    assert (summary.cost_usd, summary.cost_all_realtime_usd, summary.saved_usd) == (2.25, 4.5, 2.25)


async def test_what_a_call_costs_is_unknown_where_no_price_is() -> None:
    results = await pipeline(EchoProvider()).gather(["one"])
    assert results[0].cost_usd is None
