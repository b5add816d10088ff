"""The least a client can do over pyreqwest: as ``case_bare.py``."""

from __future__ import annotations

import asyncio
import time

import measuring
import msgspec
from pyreqwest.client import ClientBuilder


async def main(task: measuring.Task) -> None:
    prompts = iter(task.prompts())
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode
    url = task.url + "/chat/completions"
    headers = {"authorization": "Bearer none", "content-type": "application/json"}
    latencies: list[float] = []
    async with ClientBuilder().max_connections(None).error_for_status(True).build() as client:

        async def work() -> None:
            for text in prompts:
                started = time.perf_counter()
                request = client.post(url).headers(headers).body_bytes(encode(measuring.body_of(text))).build()
                response = await request.send()
                answer = decode(await response.bytes())
                assert answer["choices"][0]["message"]["content"]
                latencies.append(time.perf_counter() - started)

        stopwatch = measuring.Stopwatch()
        await asyncio.gather(*[work() for _ in range(task.concurrency)])
        measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
