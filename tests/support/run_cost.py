"""What a request costs a run, counted rather than timed: ``run_cost.py``.

A whole job (input, template, limits, journal, jsonl sink) in virtual time, with threads replaced by the loop itself, so
that the same work is done in the same order on every machine. Each figure is that of a longer run less that of a
shorter one, for each request between: what a run does once is not in it. Prints them as JSON, for a provider that does
nothing and for ``openai-chat`` over an HTTP client that does nothing.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from promptmill._app import PreparedJob
from promptmill._config import load_job
from promptmill._registry import Registry
from promptmill.clock import VirtualClock
from promptmill.errors import BadOutput
from promptmill.http import HttpClient, HttpResponse
from promptmill.interfaces import Observer, RealtimeProvider
from promptmill.models import Request, Response, Result, Usage
from promptmill.options import BuildContext, ProviderOptions

SHORT: Final = 200
LONG: Final = 1000
KEPT: Final = (1000, 3000, 4000)
"""Memory is looked at after so many requests and so many, of so many: as much is read ahead both times."""

AT_ONCE: Final = 64
LATENCY_S: Final = 0.2

_TEXT: Final = "The answer is forty-two, and here is why it is so. " * 4
_USAGE: Final = Usage(input_tokens=120, cached_tokens=0, output_tokens=45, reasoning_tokens=0)
_HEADERS: Final = {
    "content-type": "application/json",
    "x-request-id": "req_0123456789abcdef0123456789abcdef",
    "x-ratelimit-limit-requests": "1000000",
    "x-ratelimit-remaining-requests": "999999",
    "x-ratelimit-limit-tokens": "2000000000",
    "x-ratelimit-remaining-tokens": "1999999000",
}
_REPLY: Final = json.dumps(
    {
        "id": "chatcmpl-0",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 45, "total_tokens": 165},
    }
).encode()


class NullProvider(RealtimeProvider):
    """Answers by itself, after a while."""

    model = "m"

    async def complete(self, request: Request, *, timeout: float) -> Response:
        del request, timeout
        await anyio.sleep(LATENCY_S)
        return Response(text=_TEXT, finish_reason="stop", model="m", usage=_USAGE, request_id="req_0", body=_REPLY)


class NullOptions(ProviderOptions):
    def build(self, context: BuildContext) -> NullProvider:
        del context
        return NullProvider()


class NullClient(HttpClient):
    """An HTTP client without a network, so that a provider's own work is counted and no library's."""

    async def request(self, method: str, url: str, **given: Any) -> HttpResponse:
        if (method, url) != ("POST", "http://127.0.0.1:9/v1/chat/completions") or b'"messages"' not in given["body"]:
            raise BadOutput("this is not what the provider should have sent", code="bad_json")
        await anyio.sleep(LATENCY_S)
        return HttpResponse(status=200, headers=_HEADERS, body=_REPLY, first_byte_s=LATENCY_S)


PROVIDERS: Final = {
    "null": "{use: null-provider, max_concurrency: 64, limits: {rpm: 1000000, tpm: 1000000000}}",
    "openai-chat": "{use: openai-chat, model: m, base_url: 'http://127.0.0.1:9/v1', max_concurrency: 64,"
    " limits: {rpm: 1000000, tpm: 1000000000}}",
}


class Blocks(Observer):
    """Memory blocks in use when so many requests have finished: what piles up for each of them."""

    def __init__(self, *at: int) -> None:
        self._at = at
        self._finished = 0
        self.seen: list[int] = []

    def request_finished(self, result: Result) -> None:
        del result
        self._finished += 1
        if self._finished in self._at:
            gc.collect()
            self.seen.append(sys.getallocatedblocks())


Counting = Callable[[Any], Any]
"""Given the event loop, a context in which something is counted."""


def run(kind: str, requests: int, counting: Counting, observers: tuple[Observer, ...] = ()) -> None:
    """One job of so many rows. Fails when one is not answered."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (
            json.dumps({"id": f"q{at}", "question": f"Case {at}. " + "Why is that? " * 38}) for at in range(requests)
        )
        (folder / "questions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        (folder / "job.yaml").write_text(
            "version: 1\n"
            "input: {path: questions.jsonl, id: id, prompt: '{{ question }}'}\n"
            "params: {temperature: 0, max_tokens: 256}\n"
            f"providers: {{bench: {PROVIDERS[kind]}}}\n"
            "output: answers.jsonl\n",
            encoding="utf-8",
        )
        registry = Registry()
        registry.add("provider", "null-provider", NullOptions)
        clock = VirtualClock()

        async def main() -> int:
            job = PreparedJob(load_job(folder / "job.yaml", registry), clock=clock)
            with counting(sys.modules["asyncio"].get_running_loop()):
                return (await job.run(observers=observers)).summary.succeeded

        succeeded = clock.run(main)
    if succeeded != requests:
        raise SystemExit(f"{succeeded} of {requests} requests were answered")


@contextmanager
def without_threads() -> Iterator[Counter[str]]:
    """Do at once what would be done in a thread: how quick a disk is then changes nothing. Counts what is."""
    counts: Counter[str] = Counter()
    before = anyio.to_thread.run_sync

    async def run_sync(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        counts["thread_calls"] += 1
        await anyio.lowlevel.checkpoint()
        return function(*args)

    anyio.to_thread.run_sync = run_sync
    try:
        yield counts
    finally:
        anyio.to_thread.run_sync = before


@contextmanager
def scheduling(loop: Any, counts: Counter[str]) -> Iterator[None]:
    """Count what the event loop is given to do."""

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return method(*args, **kwargs)

        return counting

    for name, method in (("handles", "call_soon"), ("timers", "call_at"), ("tasks", "create_task")):
        setattr(loop, method, counted(name, getattr(loop, method)))
    yield


@contextmanager
def calling(counts: Counter[str]) -> Iterator[None]:
    """Count the calls of functions (and each time a coroutine goes on), of built-in ones, and of pydantic's among
    those."""

    def seen(_: Any, event: str, argument: Any) -> None:
        if event == "call":
            counts["calls"] += 1
        elif event == "c_call":
            counts["builtin_calls"] += 1
            if type(getattr(argument, "__self__", None)).__module__ == "pydantic_core._pydantic_core":
                counts["validations"] += 1

    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(None)


def each(kind: str) -> dict[str, float]:
    """All figures, for each request."""
    found: dict[int, Counter[str]] = {}
    with without_threads() as threads:
        run(kind, AT_ONCE, lambda _: nullcontext())  # what is imported and made late
        for requests in (SHORT, LONG):
            counts: Counter[str] = Counter()
            threads.clear()
            run(kind, requests, lambda loop, counts=counts: scheduling(loop, counts))
            counts.update(threads)
            gc.collect()
            gc.disable()  # or what it calls would be counted, wherever it happens to be
            run(kind, requests, lambda _, counts=counts: calling(counts))
            gc.enable()
            found[requests] = counts
        blocks = Blocks(*KEPT[:2])
        run(kind, KEPT[2], lambda _: nullcontext(), (blocks,))
    counted: Mapping[str, int] = found[LONG]
    figures = {name: (counted[name] - found[SHORT][name]) / (LONG - SHORT) for name in NAMES}
    growth = (blocks.seen[1] - blocks.seen[0]) / (KEPT[1] - KEPT[0])
    return {name: round(figure, 3) for name, figure in (figures | {"blocks_kept": growth}).items()}


NAMES: Final = ("handles", "timers", "tasks", "thread_calls", "calls", "builtin_calls", "validations")


def main() -> None:
    from promptmill_openai import endpoint

    endpoint.open_client = lambda *_, **__: NullClient()
    print(json.dumps({kind: each(kind) for kind in PROVIDERS}))  # noqa: T201 - for the test that runs this


if __name__ == "__main__":
    main()
