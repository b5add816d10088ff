"""litellm's ``acompletion`` with gather and a semaphore.

Its documentation's advice for throughput is followed by its defaults: the aiohttp transport and one client kept for all
calls. No callbacks, no cache, and the table of prices that is installed rather than one from the network.
"""

from __future__ import annotations

import asyncio
import os
import time

import measuring

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read when it is imported

import litellm


async def main(task: measuring.Task) -> None:
    semaphore = asyncio.Semaphore(task.concurrency)
    latencies: list[float] = []
    litellm.suppress_debug_info = True
    litellm.telemetry = False

    async def ask(prompt: str) -> None:
        async with semaphore:
            started = time.perf_counter()
            answer = await litellm.acompletion(
                model=f"openai/{measuring.MODEL}",
                api_base=task.url,
                api_key="none",
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=measuring.MAX_TOKENS,
            )
            assert answer.choices[0].message.content
            latencies.append(time.perf_counter() - started)

    await ask("a first request, for what is imported late")
    latencies.clear()
    stopwatch = measuring.Stopwatch()
    await asyncio.gather(*[ask(prompt) for prompt in task.prompts()])
    measuring.report(stopwatch, latencies, task.requests)


if __name__ == "__main__":
    measuring.run(main)
