"""What the HTTP layer costs a request: ``part_http.py [REQUESTS] [ROUNDS] [CLIENT ...]``.

A client is a backend, used through ``HttpClient.post`` (``aiohttp``, ``httpx``), or a library without the door
(``bare-aiohttp``; ``bare-pyreqwest`` where it is installed). 256 at once against the server that answers at once, each
in a process of its own, taking turns, on asyncio and on uvloop. Prints microseconds of CPU, the lowest, median and
highest of the rounds, and the memory.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import measuring
import msgspec
from machine import cores
from processes import run
from servers import chat_server

from promptmill.http import HttpSettings, open_client

AT_ONCE = 256
CLIENTS = ("aiohttp", "bare-aiohttp", *(("bare-pyreqwest",) if find_spec("pyreqwest") else ()))
HEADERS = {"authorization": "Bearer none", "content-type": "application/json"}
TIMEOUT_S = 60

Post = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def through_the_door(backend: str, url: str) -> AsyncIterator[Post]:
    settings = HttpSettings.model_validate({"backend": backend})
    async with open_client(settings, connections=AT_ONCE) as client:

        async def post(body: bytes) -> bytes:
            return (await client.post(url, headers=HEADERS, body=body, timeout=TIMEOUT_S)).body

        yield post


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Post]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post(body: bytes) -> bytes:
            async with session.post(url, data=body, headers=HEADERS) as response:
                return await response.read()

        yield post


@asynccontextmanager
async def bare_pyreqwest(url: str) -> AsyncIterator[Post]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().no_proxy().follow_redirects(False).build() as client:

        async def post(body: bytes) -> bytes:
            response = await client.post(url).headers(HEADERS).body_bytes(body).build().send()
            return bytes(await response.bytes())

        yield post
    # Without a pause some of these processes are aborted at their end, though the client is closed.
    await asyncio.sleep(0.2)


def client_of(name: str, url: str) -> Any:
    bare = {"bare-aiohttp": bare_aiohttp, "bare-pyreqwest": bare_pyreqwest}
    return bare[name](url) if name in bare else through_the_door(name, url)


async def measured(name: str, count: int, url: str) -> None:
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    answered = 0
    async with client_of(name, url) as post:

        async def work(texts: Any) -> None:
            nonlocal answered
            for text in texts:
                assert decode(await post(encode(measuring.body_of(text))))["choices"]
                answered += 1

        async def all_of(texts: list[str]) -> None:
            shared = iter(texts)
            await asyncio.gather(*[work(shared) for _ in range(AT_ONCE)])

        # Connections are opened before the clock is.
        await all_of([measuring.prompt(number) for number in range(2 * AT_ONCE)])
        texts = [measuring.prompt(number) for number in range(count)]
        answered = 0
        stopwatch = measuring.Stopwatch()
        await all_of(texts)
        wall, cpu = stopwatch.read()
    if answered != count:
        raise SystemExit(f"{answered} of {count} requests were answered")
    print(json.dumps({"each_us": 1e6 * cpu / count, "rate": count / wall}))


def main(count: int, rounds: int, clients: list[str]) -> None:
    client_core, server_core = cores()
    cases = [(client, loop) for client in clients for loop in ("asyncio", "uvloop")]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {case: [] for case in cases}
    with chat_server(server_core) as server:
        url = server.url(0) + "/chat/completions"
        for _ in range(rounds):
            for case in cases:
                found[case].append(run("part_http.py", "--one", *case, count, url, core=client_core))
    print(f"server: {server.name}; {count} requests, {AT_ONCE} at once, {rounds} rounds")
    print(f"{'client':<16}{'loop':<9}{'us a request: low':>18}{'median':>8}{'high':>8}{'peak MiB':>10}")
    for (client, loop), figures in found.items():
        costs = [one["each_us"] for one in figures]
        peak = max(one["peak_mib"] for one in figures)
        print(
            f"{client:<16}{loop:<9}{min(costs):>18.0f}{statistics.median(costs):>8.0f}{max(costs):>8.0f}{peak:>10.0f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _, _, name, loop, requests, url = sys.argv
        factory = None
        if loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(measured(name, int(requests), url))
    else:
        numbers, names = sys.argv[1:3], sys.argv[3:]
        defaults = [20_000, 3]
        asked = [*map(int, numbers), *defaults[len(numbers) :]]
        main(*asked, clients=names or list(CLIENTS))
