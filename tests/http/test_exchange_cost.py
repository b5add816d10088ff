"""What a request over the default backend makes the event loop do, counted: the layers that cost the most are not back.

That of the run around it: ``tests/test_cost.py``. In microseconds: ``benchmarks/part_http.py``.
"""

from __future__ import annotations

import asyncio
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from promptmill.http import HttpClient, HttpSettings, open_client
from promptmill.testing.badserver import http_reply

REQUESTS: Final = 100
REPLY: Final = http_reply(b'{"answer": 42}', headers=[(f"x-name-{number}", "value") for number in range(10)])

MOST: Final = {
    "tasks": 0,  # a session of aiohttp takes one to write the body, before Python 3.12
    "timers": 0,  # one for all calls is set by the first
    "calls": 105,
}
"""The most of each for one request, calls about a tenth above what was counted with Python 3.11."""


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := b"".join(iter(self.rfile.readline, b"\r\n")):
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            self.rfile.read(int(length.split(b":")[1]))
            self.wfile.write(REPLY)


@pytest.fixture
def url() -> Iterator[str]:
    """That of a server in a thread of its own, so that nothing of it is counted."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/chat/completions"
        server.shutdown()


async def counted(client: HttpClient, url: str, requests: int) -> Counter[str]:
    loop = asyncio.get_running_loop()
    counts: Counter[str] = Counter()

    def task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        counts["tasks"] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    def timer(*args: Any, **options: Any) -> asyncio.TimerHandle:
        counts["timers"] += 1
        return call_at(*args, **options)

    def profile(_frame: Any, event: str, _arg: Any) -> None:
        counts["calls"] += event == "call"

    call_at, before = loop.call_at, sys.getprofile()
    loop.set_task_factory(task)
    loop.call_at = timer  # type: ignore[method-assign]
    sys.setprofile(profile)
    try:
        for _ in range(requests):
            assert (await client.post(url, headers={"x-own": "1"}, body=b'{"question": 6}', timeout=60)).status == 200
    finally:
        sys.setprofile(before)
        loop.call_at = call_at  # type: ignore[method-assign]
        loop.set_task_factory(None)
    return counts


async def test_a_request_costs_no_more_than_it_did(url: str) -> None:
    async with open_client(HttpSettings()) as client:
        await counted(client, url, 3)  # the way there, and what is made once
        found = await counted(client, url, REQUESTS)
    print({name: found[name] / REQUESTS for name in MOST})  # noqa: T201 - the figures
    assert found["calls"] > 20 * REQUESTS
    assert {name: found[name] for name, most in MOST.items() if found[name] > most * REQUESTS} == {}
