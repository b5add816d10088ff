"""The least a client can do: aiohttp, a fixed number of workers, a fast JSON library both ways, nothing kept."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import measuring
import msgspec


async def main(task: measuring.Task) -> None:
    prompts = iter(task.prompts())
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    url = task.url + "/chat/completions"
    headers = {"authorization": "Bearer none", "content-type": "application/json"}
    latencies: list[float] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for text in prompts:
            started = time.perf_counter()
            async with session.post(url, data=encode(measuring.body_of(text)), headers=headers) as response:
                answer = decode(await response.read())
            assert answer["choices"][0]["message"]["content"]
            latencies.append(time.perf_counter() - started)

    stopwatch = measuring.Stopwatch()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        await asyncio.gather(*[work(session) for _ in range(task.concurrency)])
    measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
