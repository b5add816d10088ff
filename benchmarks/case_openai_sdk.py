"""The official SDK: one client, one task per prompt, a semaphore, ``asyncio.gather``."""

from __future__ import annotations

import asyncio
import time

import measuring
from openai import AsyncOpenAI


async def main(task: measuring.Task) -> None:
    prompts = task.prompts()
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

    stopwatch = measuring.Stopwatch()
    async with AsyncOpenAI(api_key="none", base_url=task.url) as client:
        await asyncio.gather(*[ask(client, prompt) for prompt in prompts])
    measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
