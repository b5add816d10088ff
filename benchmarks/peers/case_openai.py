"""openai-python with gather and a semaphore, as its documentation shows concurrent calls.

The default client; ``case_openai_aiohttp.py`` is the one its README recommends for concurrency. Nothing is kept.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import measuring
from openai import AsyncOpenAI


async def main(task: measuring.Task, **client_options: Any) -> None:
    semaphore = asyncio.Semaphore(task.concurrency)
    latencies: list[float] = []

    async def ask(client: AsyncOpenAI, prompt: str) -> None:
        async with semaphore:
            started = time.perf_counter()
            completion = await client.chat.completions.create(
                model=measuring.MODEL,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=measuring.MAX_TOKENS,
            )
            assert completion.choices[0].message.content
            latencies.append(time.perf_counter() - started)

    async with AsyncOpenAI(api_key="none", base_url=task.url, **client_options) as client:
        await ask(client, "a first request, for what is imported late")
        latencies.clear()
        stopwatch = measuring.Stopwatch()
        await asyncio.gather(*[ask(client, prompt) for prompt in task.prompts()])
        measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
