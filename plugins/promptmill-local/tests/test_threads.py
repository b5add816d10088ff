"""The threaded base: slots, batches, abandoned calls, closing. Models block on events, never on time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import anyio
import pytest

from promptmill.errors import Permanent, ProviderError, Transient
from promptmill.models import Message, Request, Response
from promptmill_local import Answer, ThreadedProvider

LONG = 30.0
"""Seconds a thread waits for an event at most: only a failing test gets there."""


def ask(text: str) -> Request:
    return Request(id=text, messages=(Message("user", text),))


def text_of(request: Request) -> str:
    return request.messages[0].text


def crew_threads(provider: ThreadedProvider) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(type(provider).__name__)]


class Gate(ThreadedProvider):
    """A model that tells when a thread comes in and keeps it until the test opens the gate."""

    def __init__(self, *, slots: int = 1, close_grace: float = LONG, stuck_after: float = LONG) -> None:
        super().__init__(slots=slots, close_grace=close_grace, stuck_after=stuck_after)
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.seen: list[str] = []
        self.was_abandoned: list[bool] = []
        self.unloads = 0

    def generate(self, request: Request) -> Answer:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.seen.append(text_of(request))
        self.entered.release()
        assert self.open.wait(LONG)
        self.was_abandoned.append(self.abandoned())
        with self.lock:
            self.inside -= 1
        return text_of(request).upper()

    def unload(self) -> None:
        self.unloads += 1


async def enters(provider: Gate) -> None:
    """Wait until one more thread is in the model."""
    assert await anyio.to_thread.run_sync(provider.entered.acquire, True, LONG)


class Upper(ThreadedProvider):
    model = "upper-1"

    def generate(self, request: Request) -> Answer:
        return text_of(request).upper()


async def test_a_text_becomes_a_response_of_the_model() -> None:
    async with Upper() as provider:
        assert await provider.complete(ask("a"), timeout=1) == Response(text="A", model="upper-1")


async def test_a_response_passes_and_keeps_its_own_model() -> None:
    class Named(ThreadedProvider):
        model = "mine"

        def generate(self, request: Request) -> Answer:
            return Response(text=None, model="theirs", finish_reason="refusal")

    async with Named() as provider:
        response = await provider.complete(ask("a"), timeout=1)
    assert (response.model, response.finish_reason) == ("theirs", "refusal")


async def test_load_and_unload_run_once_in_the_same_worker_thread_as_generate() -> None:
    class Loaded(ThreadedProvider):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[str, int]] = []

        def note(self, what: str) -> None:
            self.calls.append((what, threading.get_ident()))

        def load(self) -> None:
            self.note("load")

        def generate(self, request: Request) -> Answer:
            self.note("generate")
            return ""

        def unload(self) -> None:
            self.note("unload")

    async with Loaded() as provider:
        await provider.complete(ask("a"), timeout=1)
    assert [what for what, _ in provider.calls] == ["load", "generate", "unload"]
    assert len({ident for _, ident in provider.calls} - {threading.get_ident()}) == 1
    assert crew_threads(provider) == []


async def test_one_slot_is_never_entered_twice() -> None:
    provider = Gate()
    async with provider, anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(lambda name=name: provider.complete(ask(name), timeout=1))
        await enters(provider)
        provider.open.set()
    assert provider.most == 1
    assert sorted(provider.seen) == ["a", "b", "c"]


async def test_several_slots_are_used_at_once() -> None:
    provider = Gate(slots=3)
    assert provider.concurrency == 3
    async with provider, anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(lambda name=name: provider.complete(ask(name), timeout=1))
        for _ in range(3):
            await enters(provider)
        assert provider.inside == 3
        provider.open.set()
    assert provider.most == 3
    assert len(provider.seen) == 4


async def test_a_provider_error_is_the_outcome_and_another_exception_escapes() -> None:
    class Failing(ThreadedProvider):
        def generate(self, request: Request) -> Answer:
            if text_of(request) == "bug":
                raise ZeroDivisionError("a bug")
            if text_of(request) == "exit":
                raise SystemExit(3)
            raise Permanent("too long", code="context_length_exceeded")

    async with Failing() as provider:
        with pytest.raises(Permanent, match="too long"):
            await provider.complete(ask("x"), timeout=1)
        with pytest.raises(ZeroDivisionError):
            await provider.complete(ask("bug"), timeout=1)
        with pytest.raises(RuntimeError, match="the model raised SystemExit: 3"):
            await provider.complete(ask("exit"), timeout=1)
        with pytest.raises(Permanent):
            await provider.complete(ask("still alive"), timeout=1)


async def test_an_answer_of_another_type_is_a_bug_that_is_named() -> None:
    class Wrong(ThreadedProvider):
        def generate(self, request: Request) -> Answer:
            return 7  # type: ignore[return-value]

    async with Wrong() as provider:
        with pytest.raises(TypeError, match="a Response or a str, got int"):
            await provider.complete(ask("x"), timeout=1)


async def test_a_cancelled_call_keeps_its_slot_until_its_thread_is_back() -> None:
    provider = Gate()
    answers: list[str | None] = []

    async def second() -> None:
        answers.append((await provider.complete(ask("second"), timeout=1)).text)

    async with provider, anyio.create_task_group() as group:
        with anyio.CancelScope() as first:
            group.start_soon(_cancel_when_entered, provider, first)
            await provider.complete(ask("first"), timeout=1)
        assert first.cancelled_caught
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        assert provider.seen == ["first"]
        provider.open.set()
    assert provider.most == 1
    assert answers == ["SECOND"]
    assert provider.was_abandoned == [True, False]


async def _cancel_when_entered(provider: Gate, scope: anyio.CancelScope) -> None:
    await enters(provider)
    scope.cancel()


async def test_a_call_cancelled_while_it_waits_for_a_slot_never_reaches_the_model() -> None:
    provider = Gate()
    async with provider, anyio.create_task_group() as group:
        group.start_soon(lambda: provider.complete(ask("first"), timeout=1))
        await enters(provider)
        with anyio.move_on_after(0.01) as waiting:
            await provider.complete(ask("second"), timeout=1)
        assert waiting.cancelled_caught
        provider.open.set()
    assert provider.seen == ["first"]


async def test_a_new_call_is_told_when_every_slot_hangs() -> None:
    provider = Gate(stuck_after=0.01)
    async with provider:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(_cancel_when_entered, provider, scope)
                await provider.complete(ask("hangs"), timeout=1)
        with pytest.raises(Transient, match="1 abandoned calls are still in the model") as caught:
            await provider.complete(ask("next"), timeout=1)
        assert caught.value.code == "model_stuck"
        provider.open.set()
        await provider.complete(ask("after"), timeout=1)
    assert provider.seen == ["hangs", "after"]


async def test_close_gives_up_on_a_hanging_thread_and_leaves_its_model_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Gate(close_grace=0.01)
    with caplog.at_level(logging.WARNING):
        async with provider, anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(_cancel_when_entered, provider, scope)
                await provider.complete(ask("hangs"), timeout=1)
    assert "1 calls are still running" in caplog.text
    assert provider.unloads == 0
    threads = crew_threads(provider)
    assert len(threads) == 1
    assert threads[0].daemon
    provider.open.set()
    await anyio.to_thread.run_sync(threads[0].join, LONG)
    assert crew_threads(provider) == []


async def test_close_waits_for_a_call_that_comes_back_in_time() -> None:
    provider = Gate()
    async with anyio.create_task_group() as group:
        await provider.aopen()
        with anyio.CancelScope() as scope:
            group.start_soon(_cancel_when_entered, provider, scope)
            await provider.complete(ask("slow"), timeout=1)
        group.start_soon(provider.aclose)
        await anyio.wait_all_tasks_blocked()
        assert provider.unloads == 0
        provider.open.set()
    assert provider.unloads == 1
    assert crew_threads(provider) == []


async def test_a_failing_load_fails_the_opening_and_leaves_no_thread() -> None:
    class Broken(Upper):
        def load(self) -> None:
            raise OSError("no such model")

        def unload(self) -> None:
            raise AssertionError("nothing was loaded")

    provider = Broken()
    with pytest.raises(OSError, match="no such model"):
        await provider.aopen()
    for thread in crew_threads(provider):
        await anyio.to_thread.run_sync(thread.join, LONG)
    assert crew_threads(provider) == []


async def test_a_load_that_was_given_up_is_freed_when_it_ends() -> None:
    class Slow(Upper):
        def __init__(self) -> None:
            super().__init__(slots=2)
            self.loading, self.go, self.freed = threading.Event(), threading.Event(), threading.Event()

        def load(self) -> None:
            self.loading.set()
            assert self.go.wait(LONG)

        def unload(self) -> None:
            self.freed.set()

    provider = Slow()
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:

            async def stop() -> None:
                await anyio.to_thread.run_sync(provider.loading.wait, LONG)
                scope.cancel()

            group.start_soon(stop)
            await provider.aopen()
        assert not provider.freed.is_set()
        provider.go.set()
        assert await anyio.to_thread.run_sync(provider.freed.wait, LONG)


class Batches(ThreadedProvider):
    """Notes the size of each batch; a request ``bad`` fails alone, ``crash`` fails its whole batch."""

    def __init__(self, max_batch: int, max_wait: float = 0.0) -> None:
        super().__init__(max_batch=max_batch, max_wait=max_wait)
        self.sizes: list[int] = []
        self.short = False

    def generate(self, request: Request) -> Answer:
        return text_of(request).upper()

    def generate_batch(self, requests: Sequence[Request]) -> Sequence[Answer | ProviderError]:
        self.sizes.append(len(requests))
        if any(text_of(request) == "crash" for request in requests):
            raise ZeroDivisionError("whole batch")
        answers = [
            Permanent("this one only") if text_of(request) == "bad" else self.generate(request) for request in requests
        ]
        return answers[1:] if self.short else answers


async def _ask_all(provider: ThreadedProvider, names: Sequence[str]) -> dict[str, str]:
    """What became of each request: its answer, or the name of the failure."""
    outcomes: dict[str, str] = {}

    async def one(name: str) -> None:
        try:
            outcomes[name] = str((await provider.complete(ask(name), timeout=1)).text)
        except Exception as error:
            outcomes[name] = type(error).__name__

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(one, name)
    return outcomes


async def test_a_full_batch_goes_at_once() -> None:
    provider = Batches(max_batch=3, max_wait=LONG)
    assert provider.concurrency == 3
    async with provider:
        assert await _ask_all(provider, "abc") == {"a": "A", "b": "B", "c": "C"}
    assert provider.sizes == [3]


async def test_a_batch_that_stays_small_goes_when_its_wait_is_over() -> None:
    provider = Batches(max_batch=3, max_wait=0.01)
    async with provider:
        assert await _ask_all(provider, "a") == {"a": "A"}
    assert provider.sizes == [1]


async def test_a_failure_in_a_batch_hits_only_its_request() -> None:
    async with Batches(max_batch=3, max_wait=LONG) as provider:
        outcomes = await _ask_all(provider, ["a", "bad", "c"])
    assert outcomes == {"a": "A", "bad": "Permanent", "c": "C"}


async def test_an_exception_of_a_batch_hits_all_of_it_and_no_other() -> None:
    async with Batches(max_batch=2, max_wait=LONG) as provider:
        assert await _ask_all(provider, ["a", "crash"]) == {"a": "ZeroDivisionError", "crash": "ZeroDivisionError"}
        assert await _ask_all(provider, ["b", "c"]) == {"b": "B", "c": "C"}


async def test_a_batch_with_missing_answers_is_a_bug() -> None:
    provider = Batches(max_batch=2, max_wait=LONG)
    provider.short = True
    async with provider:
        assert await _ask_all(provider, "ab") == {"a": "RuntimeError", "b": "RuntimeError"}


@pytest.mark.parametrize(("slots", "max_batch"), [(0, 1), (1, 0)])
def test_nonsense_sizes_are_refused(slots: int, max_batch: int) -> None:
    class Sized(Upper):
        def __init__(self) -> None:
            ThreadedProvider.__init__(self, slots=slots, max_batch=max_batch)

    with pytest.raises(ValueError, match="must be 1 or more"):
        Sized()


async def test_many_requests_through_few_threads() -> None:
    provider = Batches(max_batch=8)
    names = [f"n{number}" for number in range(500)]
    async with provider:
        outcomes = await _ask_all(provider, names)
    assert outcomes == {name: name.upper() for name in names}
    assert max(provider.sizes) <= 8


@pytest.mark.parametrize(("slots", "max_batch"), [(1, 1), (3, 1), (2, 4)])
async def test_every_slot_comes_back_however_calls_are_cancelled(slots: int, max_batch: int) -> None:
    class Quick(ThreadedProvider):
        def generate(self, request: Request) -> Answer:
            return text_of(request)

    provider = Quick(slots=slots, max_batch=max_batch)
    answered: list[str | None] = []

    async def one(number: int) -> None:
        # Zero, one or two turns of the loop: cancelled before, in, or behind the wait for a slot; or not at all.
        async with anyio.create_task_group() as group:

            async def call() -> None:
                answered.append((await provider.complete(ask(str(number)), timeout=1)).text)

            group.start_soon(call)
            if number % 4:
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

    async with provider:
        async with anyio.create_task_group() as group:
            for number in range(400):
                group.start_soon(one, number)
        assert {str(number) for number in range(0, 400, 4)} <= set(answered)
        assert len(answered) == len(set(answered))
        for number in range(slots * max_batch):
            await provider.complete(ask(f"after {number}"), timeout=1)
        assert provider._limiter.borrowed_tokens == 0
    assert crew_threads(provider) == []
