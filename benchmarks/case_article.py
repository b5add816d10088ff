"""The program of the article this project starts from, as a reader would write it.

One session, one task per prompt, a semaphore, ``asyncio.gather``, JSON by the standard library, all results in a list.
The session is made as the library's documentation shows it, so it opens 100 connections at most.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import measuring


async def ask(session: aiohttp.ClientSession, semaphore: asyncio.Semaphore, url: str, prompt: str) -> dict[str, Any]:
    async with semaphore:
        started = time.perf_counter()
        headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=30)
        try:
            async with session.post(url, headers=headers, json=measuring.body_of(prompt), timeout=timeout) as response:
                response.raise_for_status()
                data = await response.json()
        except TimeoutError:
            return {"prompt": prompt, "error": "timeout", "latency": time.perf_counter() - started}
        text = data["choices"][0]["message"]["content"]
        return {"prompt": prompt, "response": text, "latency": time.perf_counter() - started}


async def main(task: measuring.Task) -> None:
    prompts = task.prompts()
    stopwatch = measuring.Stopwatch()
    semaphore = asyncio.Semaphore(task.concurrency)
    url = task.url + "/chat/completions"
    async with aiohttp.ClientSession() as session:
        results = await asyncio.gather(*[ask(session, semaphore, url, prompt) for prompt in prompts])
    measuring.report(stopwatch, [one["latency"] for one in results if "response" in one], task.requests)


if __name__ == "__main__":
    measuring.run(main)
